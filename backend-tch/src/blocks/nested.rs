//! How tensors are nested in what a compiled model takes and gives, as `PyTorch` tells it: trees of tuples, lists and dicts
//! (`torch.utils._pytree.treespec_dumps`).

use super::torch_script::output_name;
use serde_json::Value;
use skep_runtime_core::BoxError;

/// A tree of containers with tensors for leaves.
#[derive(Debug, PartialEq)]
pub(super) struct Nested(Vec<String>);

impl Nested {
    /// Reads `[version, tree]`.
    pub(super) fn read(text: &str) -> Result<Self, BoxError> {
        let tree: Value = serde_json::from_str(text)?;
        let mut leaves = Vec::new();
        walk(&tree[1], String::new(), 0, &mut leaves)?;
        Ok(Self(leaves))
    }

    pub(super) fn leaves(&self) -> usize {
        self.0.len()
    }

    /// The leaves' names as outputs: where they are in the tree.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().enumerate().map(|(at, path)| output_name(path, at)).collect()
    }
}

/// Deeper ones are nobody's.
const DEEPEST: usize = 32;

fn walk(node: &Value, path: String, depth: usize, leaves: &mut Vec<String>) -> Result<(), BoxError> {
    if depth > DEEPEST {
        return Err(format!("package nests its tensors deeper than {DEEPEST} times").into());
    }
    if node["type"].is_null() {
        leaves.push(path);
        return Ok(());
    }
    let children = node["children_spec"].as_array().ok_or("package nests its tensors in an unknown way")?;
    // The keys of a dict stand in its context, as a list in JSON; tuples and lists have none.
    let keys: Vec<String> = match &node["context"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        Value::Array(keys) => keys.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    for (at, child) in children.iter().enumerate() {
        let name = keys.get(at).filter(|_| keys.len() == children.len()).cloned();
        let name = name.unwrap_or_else(|| at.to_string());
        let path = if path.is_empty() { name } else { format!("{path}.{name}") };
        walk(child, path, depth + 1, leaves)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_named_by_where_they_are() {
        let leaf = r#"{"type":null,"context":null,"children_spec":[]}"#;
        let tree = |kind: &str, context: &str, children: &[&str]| {
            let children = children.join(",");
            format!(r#"{{"type":"builtins.{kind}","context":{context},"children_spec":[{children}]}}"#)
        };
        let names = |tree: &str| Nested::read(&format!("[1, {tree}]")).unwrap().names();
        assert_eq!(names(leaf), ["output_0"]);
        assert_eq!(names(&tree("tuple", "\"null\"", &[leaf, leaf])), ["output_0", "output_1"]);
        let list = tree("list", "\"null\"", &[leaf, leaf]);
        let dict = tree("dict", r#""[\"y\", \"more\"]""#, &[leaf, &list]);
        assert_eq!(names(&dict), ["y", "more.0", "more.1"]);
        assert_eq!(names(&tree("tuple", "null", &[])), [""; 0]);
        assert!(Nested::read("[1, {\"type\": \"builtins.tuple\"}]").is_err() && Nested::read("no").is_err());
        let deep = (0..100).fold(leaf.to_owned(), |tree_so_far, _| tree("list", "null", &[&tree_so_far]));
        assert!(Nested::read(&format!("[1, {deep}]")).is_err());
    }
}
