//! What balancers and monitors are told of the load.

use crate::kit::{Live, NOP};
use serde_json::{Value, json};

const INFER: &str = "/v2/models/nop/infer";
const FORMAT: &str = "endpoint-load-metrics-format";

fn row() -> String {
    json!({ "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2] }] }).to_string()
}

#[test]
fn an_answer_has_a_load_report_if_it_is_asked_for() {
    let live = Live::new(&[NOP]);
    let ask = |headers: &[(&str, &str)]| live.send("POST", INFER, headers, row().as_bytes());
    assert!(!ask(&[]).headers.contains_key("endpoint-load-metrics"));

    let answer = ask(&[(FORMAT, "text")]);
    let text = answer.headers["endpoint-load-metrics"].strip_prefix("TEXT ").unwrap();
    let number = |name: &str| -> f64 {
        let found = text.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    };
    assert!((0.0..=1.0).contains(&number("application_utilization")), "{text}");
    assert!(number("rps_fractional") > 0.0 && number("eps").abs() < 1e-9, "{text}");
    assert!(number("named_metrics.queue").abs() < 1e-9, "{text}");

    let answer = ask(&[(FORMAT, "json")]);
    let report: Value =
        serde_json::from_str(answer.headers["endpoint-load-metrics"].strip_prefix("JSON ").unwrap()).unwrap();
    assert!(report["rps_fractional"].as_f64().unwrap() > 0.0 && report["named_metrics"]["queue"] == 0);

    let told = ask(&[(FORMAT, "xml")]).error();
    assert_eq!(told, (400, "endpoint-load-metrics-format is `xml`, expected `text` or `json`".to_owned()));
}

#[test]
fn a_server_may_report_with_each_answer() {
    let live = Live::with(&[NOP], |config| config.load_reports = skep_server::LoadReports::Always);
    let answer = live.send("POST", INFER, &[], row().as_bytes());
    assert!(answer.headers["endpoint-load-metrics"].starts_with("TEXT application_utilization="));
    let wrong = live.send("POST", INFER, &[], b"{");
    assert!(wrong.headers.contains_key("endpoint-load-metrics"), "an error is an answer");
}

#[test]
fn metrics_have_tritons_names_if_they_are_asked_for() {
    let live = Live::with(&[NOP], |config| config.triton_metrics = true);
    live.send("POST", INFER, &[], row().as_bytes()).ok();
    let zero = json!({ "inputs": [{ "name": "x", "shape": [0, 2], "datatype": "FP32", "data": [] }] });
    assert_eq!(live.post(INFER, &zero).status, 400);
    let text = live.get("/metrics").text();
    for line in [
        "nv_inference_request_success{model=\"nop\",version=\"1\"} 1",
        "nv_inference_request_failure{model=\"nop\",version=\"1\",reason=\"OTHER\"} 1",
        "nv_inference_request_failure{model=\"nop\",version=\"1\",reason=\"REJECTED\"} 0",
        "nv_inference_count{model=\"nop\",version=\"1\"} 1",
        "nv_inference_exec_count{model=\"nop\",version=\"1\"} 1",
        "nv_inference_pending_request_count{model=\"nop\",version=\"1\"} 0",
    ] {
        assert!(text.lines().any(|own| own == line), "{line} in {text}");
    }
    for name in ["request", "queue", "compute_input", "compute_infer", "compute_output"] {
        assert!(
            text.contains(&format!("nv_inference_{name}_duration_us{{model=\"nop\"")),
            "{name} in {text}"
        );
    }
    assert!(!Live::new(&[NOP]).get("/metrics").text().contains("nv_inference"));
}
