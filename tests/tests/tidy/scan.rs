//! What a file says of others, read off its tokens.
//!
//! Not a scan of lines, which falls for comments, strings and imports that go over several lines; and not a parser,
//! which sees nothing in the arguments of macros and takes long to build.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// A file's modules: its own comes first, those that are written into it follow.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) modules: Vec<Module>,
    /// The texts of strings, outside of tests.
    pub(crate) strings: Vec<(String, usize)>,
    /// Fields and statics that are locks, outside of tests, as `Type.field` or `STATIC`.
    pub(crate) locks: Vec<(String, usize)>,
    /// The first names of all paths, also in tests.
    pub(crate) named: BTreeSet<String>,
    /// The text of the documentation.
    pub(crate) docs: String,
}

/// One module, without what is only compiled for tests.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// Its names below the file's own module; none for that itself.
    pub(crate) name: Vec<String>,
    /// The modules that are files of their own.
    pub(crate) files: Vec<String>,
    pub(crate) paths: Vec<Path>,
    /// What imports call things: the name, and where it leads.
    pub(crate) bindings: BTreeMap<String, Vec<String>>,
    /// What is imported with a star.
    pub(crate) stars: Vec<Vec<String>>,
    pub(crate) items: BTreeSet<String>,
}

/// A path, in an import or anywhere else.
#[derive(Debug, PartialEq)]
pub(crate) struct Path {
    pub(crate) names: Vec<String>,
    pub(crate) line: usize,
}

pub(crate) fn scan(text: &str) -> Result<Scan, proc_macro2::LexError> {
    let mut scan = Scan { modules: vec![Module::default()], ..Scan::default() };
    scan.walk(&tokens(TokenStream::from_str(text)?), 0, false);
    Ok(scan)
}

fn tokens(stream: TokenStream) -> Vec<TokenTree> {
    stream.into_iter().collect()
}

impl Scan {
    fn walk(&mut self, tokens: &[TokenTree], module: usize, mut in_test: bool) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = &tokens[at + 1..];
            at += 1;
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let inner = is_punct(rest.first(), '!');
                    let Some(TokenTree::Group(attribute)) = rest.get(usize::from(inner)) else { continue };
                    at += 1 + usize::from(inner);
                    let tests_only = self.attribute(attribute, module, in_test);
                    if tests_only && inner {
                        in_test = true;
                    } else if tests_only {
                        let end = at + item_length(&tokens[at..]);
                        self.walk(&tokens[at..end], module, true);
                        at = end;
                    }
                }
                TokenTree::Punct(_) => {}
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    if !in_test
                        && let Some(text) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'))
                    {
                        self.strings.push((text.to_owned(), literal.span().start().line));
                    }
                }
                TokenTree::Group(group) => self.walk(&self::tokens(group.stream()), module, in_test),
                TokenTree::Ident(ident) => at += self.ident(ident, rest, module, in_test),
            }
        }
    }

    /// Takes a word, and tells how many of the tokens after it belong to it.
    fn ident(&mut self, ident: &Ident, rest: &[TokenTree], module: usize, in_test: bool) -> usize {
        let word = ident.to_string();
        let name = rest
            .first()
            .and_then(|next| if let TokenTree::Ident(name) = next { Some(name.to_string()) } else { None });
        match &*word {
            "use" if !is_punct(rest.first(), '<') => {
                let length = rest.iter().take_while(|token| !is_punct(Some(token), ';')).count();
                self.imports(&rest[..length], &mut Vec::new(), module, in_test);
                return length;
            }
            "mod" => match (name, rest.get(1)) {
                (Some(name), Some(TokenTree::Group(body))) if body.delimiter() == Delimiter::Brace => {
                    let inner = if in_test { module } else { self.inner(module, name) };
                    self.walk(&tokens(body.stream()), inner, in_test);
                    return 2;
                }
                (Some(name), _) if !in_test => self.modules[module].files.push(name),
                _ => {}
            },
            "macro_rules" => {
                if let Some(TokenTree::Ident(name)) = rest.get(1) {
                    self.modules[module].items.insert(name.to_string());
                }
            }
            "struct" | "enum" | "union" | "trait" | "fn" | "type" | "const" | "static" => {
                if let Some(name) = name.filter(|_| !in_test) {
                    self.locks.extend(locks(&word, &name, &rest[1..], ident.span().start().line));
                    self.modules[module].items.insert(name);
                }
            }
            _ => {
                let (names, length) = path(word, rest);
                if names.len() > 1 {
                    self.path(names, ident.span().start().line, module, in_test);
                }
                return length;
            }
        }
        0
    }

    fn inner(&mut self, module: usize, name: String) -> usize {
        let name = self.modules[module].name.iter().cloned().chain([name]).collect();
        self.modules.push(Module { name, ..Module::default() });
        self.modules.len() - 1
    }

    fn path(&mut self, names: Vec<String>, line: usize, module: usize, in_test: bool) {
        self.named.extend(names.first().cloned());
        if !in_test {
            self.modules[module].paths.push(Path { names, line });
        }
    }

    /// Takes what stands between `use` and the semicolon, or between the braces in there.
    fn imports(&mut self, tokens: &[TokenTree], prefix: &mut Vec<String>, module: usize, in_test: bool) {
        for one in tokens.split(|token| is_punct(Some(token), ',')) {
            let outside = prefix.len();
            let (mut line, mut alias, mut whole) = (0, None, true);
            let mut rest = one.iter();
            while let Some(token) = rest.next() {
                match token {
                    TokenTree::Ident(name) if name == "as" => alias = rest.next().map(ToString::to_string),
                    TokenTree::Ident(name) => {
                        line = name.span().start().line;
                        prefix.push(name.to_string());
                    }
                    TokenTree::Punct(star) if star.as_char() == '*' => {
                        whole = false;
                        self.path(prefix.clone(), star.span().start().line, module, in_test);
                        if !in_test {
                            self.modules[module].stars.push(prefix.clone());
                        }
                    }
                    TokenTree::Group(group) => {
                        whole = false;
                        self.imports(&self::tokens(group.stream()), prefix, module, in_test);
                    }
                    _ => {}
                }
            }
            if whole && prefix.len() > outside {
                if prefix.last().is_some_and(|name| name == "self") && prefix.len() > 1 {
                    prefix.pop();
                }
                let name = alias.or_else(|| prefix.last().cloned());
                if let (Some(name), false) = (name, in_test) {
                    self.modules[module].bindings.insert(name, prefix.clone());
                }
                self.path(prefix.clone(), line, module, in_test);
            }
            prefix.truncate(outside);
        }
    }

    /// Takes an attribute, and tells whether what it stands before is for tests only.
    fn attribute(&mut self, group: &Group, module: usize, in_test: bool) -> bool {
        let inside = tokens(group.stream());
        match &inside[..] {
            [TokenTree::Ident(name), _, TokenTree::Literal(text)] if name == "doc" => {
                self.docs += &text.to_string();
                self.docs.push('\n');
                false
            }
            [TokenTree::Ident(name), TokenTree::Group(condition)] if name == "cfg" => is_test(condition),
            _ => {
                self.walk(&inside, module, in_test);
                false
            }
        }
    }
}

/// `test`, or `all` of something with `test` in it; the same for documentation tests.
fn is_test(condition: &Group) -> bool {
    let inside = tokens(condition.stream());
    match &inside[..] {
        [TokenTree::Ident(name)] => name == "test" || name == "doctest",
        [TokenTree::Ident(all), TokenTree::Group(conditions)] if all == "all" => {
            let conditions = tokens(conditions.stream());
            conditions.split(|token| is_punct(Some(token), ',')).any(|one| match one {
                [TokenTree::Ident(name)] => name == "test" || name == "doctest",
                _ => false,
            })
        }
        _ => false,
    }
}

/// How many tokens the item has that comes first: up to its body or its semicolon. Attributes before it belong to it.
fn item_length(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => matches!(punct.as_char(), ';' | ','),
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    tokens.iter().position(ends).map_or(tokens.len(), |end| end + 1)
}

/// The path that begins with a name, and how many tokens it takes after that.
fn path(first: String, rest: &[TokenTree]) -> (Vec<String>, usize) {
    let (mut names, mut length) = (vec![first], 0);
    while is_punct(rest.get(length), ':') && is_punct(rest.get(length + 1), ':') {
        let Some(TokenTree::Ident(next)) = rest.get(length + 2) else { return (names, length + 2) };
        names.push(next.to_string());
        length += 3;
    }
    (names, length)
}

/// The locks that an item holds.
fn locks(kind: &str, name: &str, rest: &[TokenTree], line: usize) -> Vec<(String, usize)> {
    let end = rest.iter().position(|token| is_punct(Some(token), ';')).unwrap_or(rest.len());
    let group = |wanted: Delimiter| {
        rest[..end].iter().find_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == wanted => Some(group),
            _ => None,
        })
    };
    match kind {
        "static" if rest[..end].iter().any(is_lock) => vec![(name.to_owned(), line)],
        // Bounds have parentheses and no braces, and stand behind the fields of a tuple.
        "struct" => group(Delimiter::Brace)
            .or_else(|| group(Delimiter::Parenthesis))
            .map_or_else(Vec::new, |body| fields(name, body)),
        _ => Vec::new(),
    }
}

fn fields(owner: &str, body: &Group) -> Vec<(String, usize)> {
    let inside = tokens(body.stream());
    let (mut angles, mut dash) = (0_i32, false);
    let fields = inside.split(|token| {
        let closes = is_punct(Some(token), '>') && !dash;
        dash = is_punct(Some(token), '-');
        angles += i32::from(is_punct(Some(token), '<')) - i32::from(closes);
        angles == 0 && is_punct(Some(token), ',')
    });
    let locks = fields.enumerate().filter(|(_, field)| field.iter().any(holds_lock));
    locks
        .map(|(at, field)| {
            let colon = field.iter().position(|token| is_punct(Some(token), ':'));
            // A field of a tuple has its number for a name.
            let name = colon
                .and_then(|colon| field.get(colon.checked_sub(1)?))
                .filter(|_| body.delimiter() == Delimiter::Brace);
            let line = field.last().map_or(0, |token| token.span().start().line);
            (format!("{owner}.{}", name.map_or_else(|| at.to_string(), ToString::to_string)), line)
        })
        .collect()
}

fn is_lock(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Ident(name) if name == "Mutex" || name == "RwLock")
}

/// Also in a tuple or an array.
fn holds_lock(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => tokens(group.stream()).iter().any(holds_lock),
        _ => is_lock(token),
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let scan = scan(text).unwrap();
        let paths = scan.modules.iter().flat_map(|module| &module.paths);
        paths.map(|path| format!("{} {}", path.line, path.names.join("::"))).collect()
    }

    #[test]
    fn imports_are_taken_apart() {
        let text = "use a::{\n    b::{self, C as D},\n    e::*,\n};\npub(crate) use f as g;\n";
        assert_eq!(paths(text), ["2 a::b", "2 a::b::C", "3 a::e", "5 f"]);
        let scan = scan(text).unwrap();
        let names: Vec<_> = scan.modules[0].bindings.keys().map(String::as_str).collect();
        assert_eq!(names, ["D", "b", "g"]);
        assert_eq!(scan.modules[0].stars, [["a", "e"]]);
    }

    #[test]
    fn paths_are_found_in_bodies_macros_and_attributes_and_not_in_words() {
        let text = r#"
#[derive(serde::Serialize)]
struct A(super::b::C<crate::d::E>);
// not::this
/// nor::this
fn f() -> impl Sized + use<'static> { format!("no::no {}", g::h::<u8>()) }
"#;
        assert_eq!(paths(text), ["2 serde::Serialize", "3 super::b::C", "3 crate::d::E", "6 g::h"]);
    }

    #[test]
    fn tests_are_left_out() {
        let text = r#"
#[cfg(test)]
use a::b;
#[cfg(any(test, feature = "testing"))]
use c::d;
#[cfg(test)]
mod tests { use e::f; fn g() { h::i() } }
#[cfg(all(test, unix))]
#[test]
fn j() { k::l() }
mod m { use n::o; }
mod p;
"#;
        assert_eq!(paths(text), ["5 c::d", "11 n::o"]);
        let scan = scan(text).unwrap();
        assert_eq!(scan.modules[0].files, ["p"]);
        assert_eq!(scan.modules[1].name, ["m"]);
        assert!(scan.named.contains("k"));
    }

    #[test]
    fn locks_are_known_by_their_owner() {
        let text = r"
struct A<F> where F: Fn(u8) -> u8 {
    a: HashMap<u8, Mutex<u8>>,
    b: Box<dyn Fn(u8, u8) -> Mutex<u8>>, c: u8,
    pub(crate) d: (u8, Arc<RwLock<u8>>),
}
struct B<T>(u8, Mutex<T>);
static C: Mutex<u8> = Mutex::new(0);
fn f(_: Mutex<u8>) {}
#[cfg(test)]
struct D { e: Mutex<u8> }
";
        let scan = scan(text).unwrap();
        let names: Vec<_> = scan.locks.iter().map(|(name, line)| format!("{line} {name}")).collect();
        assert_eq!(names, ["3 A.a", "4 A.b", "5 A.d", "7 B.1", "8 C"]);
    }

    #[test]
    fn strings_are_taken_and_documentation_apart() {
        let scan = scan("/// \"no\"\nfn f() { g(\"yes\"); }\n").unwrap();
        assert_eq!(scan.strings, [("yes".to_owned(), 2)]);
        assert!(scan.docs.contains("no"));
    }
}
