//! Models that are files, as `PyTorch` writes them.

use crate::kit::{Live, NOP};
use serde_json::{Value, json};
use skep_backend_tch::blocks::TorchScript;
use skep_backend_tch::prelude::Tensor;
use std::fs;
use std::path::Path;

/// A file whose module multiplies by `factor`.
fn write_times(file: &Path, factor: f32) {
    let source = "def forward(self, x):\n    return x * self.factor\n";
    TorchScript::save(file, source, &[("factor", Tensor::from_slice(&[factor]), false)]).unwrap();
}

fn times(live: &Live) -> Value {
    let x = json!({ "name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1, 3] });
    live.post("/v2/models/times/infer", &json!({ "inputs": [x] })).ok()["outputs"][0]["data"].clone()
}

#[test]
fn files_are_served_as_they_are() {
    let live = Live::with(&[NOP], |config| config.management = true);
    let load = |name: &str| live.post(&format!("/v2/repository/models/{name}/load"), &json!({}));
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/packages");
    fs::copy(data.join("expert.pt2"), live.folder().join("expert.pt2")).unwrap();
    write_times(&live.folder().join("times.pt"), 2.0);
    fs::write(live.folder().join("times.toml"), "[settings]\ninputs = \"x:f32[1]\"\n").unwrap();
    load("expert").ok();
    load("times").ok();

    assert_eq!(times(&live), json!([2.0, 6.0]));
    write_times(&live.folder().join("times.pt"), 5.0);
    load("times").ok();
    assert_eq!(times(&live), json!([5.0, 15.0]));

    // The package says itself what it takes.
    let metadata = live.get("/v2/models/expert").ok();
    let names: Vec<_> = metadata["inputs"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["x", "scale"]);
    let expected: Value = serde_json::from_slice(&fs::read(data.join("expected.json")).unwrap()).unwrap();
    let tensor = |name: &str, shape: Value| json!({ "name": name, "shape": shape, "datatype": "FP32", "data": expected[name] });
    let shape = |input: usize| {
        let mut shape = metadata["inputs"][input]["shape"].clone();
        shape[0] = json!(5);
        shape
    };
    let inputs = [tensor("x", shape(0)), tensor("scale", shape(1))];
    let answer = live.post("/v2/models/expert/infer", &json!({ "inputs": inputs })).ok();
    for output in answer["outputs"].as_array().unwrap() {
        let own = expected[output["name"].as_str().unwrap()].as_array().unwrap();
        let got = output["data"].as_array().unwrap();
        assert_eq!(got.len(), own.len());
        let near = |(a, b): (&Value, &Value)| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5;
        assert!(got.iter().zip(own).all(near), "{got:?} {own:?}");
    }

    fs::write(live.folder().join("torn.pt2"), "no package").unwrap();
    let told = load("torn").error();
    assert!(told.0 == 500 && told.1.contains("is not a whole compiled package"), "{told:?}");
}
