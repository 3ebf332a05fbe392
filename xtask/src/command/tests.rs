use super::selection::Selection;
use super::*;
use crate::combination::table::COMBINATIONS;
use clap::CommandFactory;
use proptest::prelude::*;

fn selection(arguments: &[&str]) -> Selection {
    match CommandLine::try_parse_from([&["xtask", "doc"], arguments].concat()).unwrap().command {
        Command::Doc(doc) => doc.selection,
        other => panic!("{other:?}"),
    }
}

fn error(arguments: &[&str]) -> String {
    CommandLine::try_parse_from([&["xtask"], arguments].concat()).unwrap_err().to_string()
}

#[test]
fn the_definitions_are_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn everything_is_selected_by_default() {
    let selection = selection(&[]);
    assert_eq!(selection.combinations().len(), COMBINATIONS.len());
    assert!(!selection.strict);
}

#[test]
fn one_combination_can_be_selected() {
    let selection = selection(&["--backend", "candle", "--device=cpu", "--strict"]);
    let names: Vec<_> = selection.combinations().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["candle cpu"]);
    assert!(selection.strict);
}

#[test]
fn errors_list_what_is_possible() {
    assert!(error(&["test", "--backend", "torch"]).contains("not one of candle, tch, ort, all"));
    assert!(error(&["test", "--device", "gpu"]).contains("not one of cpu, cuda, metal, all"));
    assert!(error(&["test", "--repeat", "0"]).contains("--repeat <N>"));
    assert!(error(&["explore", "--schedules", "0"]).contains("--schedules <N>"));
    assert!(error(&["explore", "--schedules", "9", "--valgrind"]).contains("cannot be used with"));
    assert!(error(&["tset"]).contains("test"));
}

#[test]
fn a_demo_keeps_its_arguments() {
    let cli = CommandLine::try_parse_from(["xtask", "demo", "--json", "--help", "--backend", "tch"]).unwrap();
    let Command::Demo(demo) = cli.command else { panic!("{cli:?}") };
    assert_eq!(demo.arguments, ["--json", "--help", "--backend", "tch"]);
    let cli = CommandLine::try_parse_from(["xtask", "packed", "--help"]).unwrap();
    let Command::Packed(packed) = cli.command else { panic!("{cli:?}") };
    assert_eq!(packed.arguments, ["--help"]);
}

proptest! {
    #[test]
    fn any_words_are_refused_or_a_task(words in prop::collection::vec(word(), 0..7)) {
        if let Ok(cli) = CommandLine::try_parse_from([vec!["xtask".to_owned()], words].concat()) {
            let chosen = match &cli.command {
                Command::Test(test) => test.selection.combinations().len(),
                Command::Lint(lint) => lint.selection.combinations().len(),
                _ => 1,
            };
            // A backend and a device that do not go together leave nothing.
            prop_assert!(chosen <= COMBINATIONS.len(), "{cli:?}");
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    let known = [
        "demo",
        "build",
        "test",
        "bench",
        "compare",
        "lint",
        "doc",
        "ci",
        "explore",
        "soak",
        "simulate",
        "model",
        "libtorch",
        "cuda-toolkit",
        "--backend",
        "--device",
        "--strict",
        "--repeat",
        "--schedules",
        "--valgrind",
        "--quick",
        "--rounds",
        "--seconds",
        "--from-python",
        "--help",
        "--",
        "candle",
        "tch",
        "all",
        "cpu",
        "cuda",
        "-1",
        "0",
        "1",
        "4294967296",
        "1e300",
        "NaN",
    ];
    prop_oneof![8 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => ".{0,8}"]
}
