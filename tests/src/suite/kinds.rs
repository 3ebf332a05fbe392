//! Blocks by the names of their kinds.

use crate::kit::{Alone, noise, write_weights};
use crate::subject::Learner;
use skep_runtime_core::{Backend, Chain};
use skep_toolkit::blocks::Nop;
use skep_toolkit::{Block, BlockError, Config, Registry, RegistryError, SharedWeights};

/// With the settings that it needs, and no others.
pub fn every_kind_runs_and_gives_what_its_schema_says<L: Learner>() {
    let registry = Registry::<L::Library>::with_defaults();
    let configs = [
        ("ffn", "input=6, activation=relu", vec![vec![2, 6]]),
        ("transformer", "size=6, heads=3", vec![vec![2, 4, 6]]),
        ("nop", "size=6", vec![vec![2, 6]]),
        ("nop_delay", "size=6, delay=0.000001", vec![vec![2, 6]]),
        ("det_dropout", "input=6, hidden=5", vec![vec![2, 6], vec![2, 5]]),
    ];
    for (kind, config, inputs) in configs {
        let mut block = Alone::<L>::new(registry.build(kind, "a block", &config.parse().unwrap()).unwrap());
        let info = block.block.info();
        assert_eq!(info.name, "a block");
        let inputs: Vec<_> = inputs.iter().map(|dims| noise(dims, 1)).collect();
        let infos: Vec<_> = inputs.iter().map(|t| block.describe(t)).collect();
        assert_eq!(info.inputs.check(&infos).unwrap().rows, 2, "{kind}");
        let outputs = block.forward(&inputs).unwrap();
        let infos: Vec<_> = outputs.iter().map(|t| block.describe(t)).collect();
        assert_eq!(info.outputs.unwrap().check(&infos).unwrap().rows, 2, "{kind}");
    }
}

#[track_caller]
fn refused<L: Learner>(kind: &str, config: &str) -> String {
    let config = config.parse().unwrap();
    Chain(&Registry::<L::Library>::with_defaults().build(kind, "b", &config).err().unwrap()).to_string()
}

/// With the block, its kind, and what would be right.
pub fn settings_that_do_not_fit_are_named<L: Learner>() {
    assert_eq!(refused::<L>("ffn", "hidden=3"), "block `b` of kind `ffn` cannot be made: `input` is missing");
    assert_eq!(
        refused::<L>("nop", "size=0"),
        "block `b` of kind `nop` cannot be made: `size` is `0`, expected at least 1"
    );
    assert_eq!(
        refused::<L>("transformer", "size=6, heads=4"),
        "block `b` of kind `transformer` cannot be made: `size` is `6`, expected a multiple of 4 heads"
    );
    assert_eq!(
        refused::<L>("ffn", "input=3, activation=tanh"),
        "block `b` of kind `ffn` cannot be made: `activation` is `tanh`, expected `gelu` or `relu`"
    );
    assert_eq!(
        refused::<L>("det_dropout", "input=3, probability=1"),
        "block `b` of kind `det_dropout` cannot be made: `probability` is `1`, expected at least 0 and below 1"
    );
    assert_eq!(
        refused::<L>("nop_delay", "size=3, delay=-1"),
        "block `b` of kind `nop_delay` cannot be made: `delay` is `-1`, expected a number of seconds"
    );
    assert_eq!(
        refused::<L>("nop", "size=3, speed=9"),
        r#"block `b` of kind `nop` cannot be made: `speed` is not a setting, expected one of ["size"]"#
    );
    assert_eq!(
        refused::<L>("nop", "size=3, seed=x"),
        "block `b` of kind `nop` cannot be made: `seed` is `x`, expected a whole number"
    );
}

/// So that a slip of the pen is found.
pub fn an_unknown_kind_is_named_beside_the_known_ones<L: Learner>() {
    let text = refused::<L>("lstm", "");
    assert!(text.starts_with("no kind of block is named `lstm`, expected one of ["), "{text}");
    assert!(text.contains(r#""transformer""#), "{text}");
}

/// The second one would hide the first.
pub fn a_kind_is_registered_once<L: Learner>() {
    let mut registry = Registry::<L::Library>::new();
    registry.register("mine", |name, _| Block::of(name, Nop { size: 2 })).unwrap();
    let error = registry.register("mine", |name, _| Block::of(name, Nop { size: 2 })).unwrap_err();
    assert!(matches!(error, RegistryError::KindTwice { kind } if kind == "mine"));
    assert_eq!(registry.kinds().collect::<Vec<_>>(), ["mine"]);
}

/// All of them, with the dims that the layers need.
pub fn parameters_come_from_a_file_where_one_is_given<L: Learner>() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ffn.safetensors");
    let source = Alone::<L>::new(
        Registry::<L::Library>::with_defaults()
            .build("ffn", "ffn", &"input=3, hidden=4, output=2, seed=5".parse().unwrap())
            .unwrap(),
    );
    let parameters = source.state().parameters;
    write_weights(&file, &parameters);

    let config = Config::new().with("input", 3).with("hidden", 4).with("output", 2);
    let config = config.with("weights", file.display());
    let build =
        |config: &Config| Registry::<L::Library>::with_defaults().build("ffn", "ffn", config).unwrap();
    assert_eq!(Alone::<L>::new(build(&config)).state().parameters, parameters);

    let error = build(&config.with("hidden", 5)).load(&L::device()).unwrap_err();
    assert!(error.to_string().starts_with("tensor `fc1.weight` has dims [4, 3], expected [5, 3]"), "{error}");
}

/// Sixteen blocks of one file: what the first has read, the others take, from then on without the file.
pub fn blocks_that_share_a_file_read_it_once<L: Learner>() {
    const BLOCKS: usize = 16;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ffn.safetensors");
    let config = Config::new().with("input", 3).with("hidden", 4).with("output", 2);
    let mut registry = Registry::<L::Library>::with_defaults();
    let parameters = Alone::<L>::new(registry.build("ffn", "ffn", &config).unwrap()).state().parameters;
    write_weights(&file, &parameters);
    let shared = SharedWeights::read(&file).unwrap();
    registry.share_weights(&shared);
    let config = config.with("weights", file.display());
    let blocks: Vec<_> =
        (0..BLOCKS).map(|at| registry.build("ffn", &format!("ffn.{at}"), &config).unwrap()).collect();
    drop((registry, shared));
    let mut blocks = blocks.into_iter().map(Alone::<L>::new);
    assert_eq!(blocks.next().unwrap().state().parameters, parameters);
    std::fs::remove_file(&file).unwrap();
    for block in blocks {
        assert_eq!(block.state().parameters, parameters);
    }
}

/// A block that has no parameters takes none from it, and a typing error in a configuration would stay.
pub fn a_weights_file_that_is_not_used_is_refused<L: Learner>() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ffn.safetensors");
    let registry = Registry::<L::Library>::with_defaults();
    let config = Config::new().with("input", 3);
    write_weights(&file, &Alone::<L>::new(registry.build("ffn", "ffn", &config).unwrap()).state().parameters);
    let config = Config::new().with("size", 3).with("weights", file.display());
    let error = registry.build("nop", "nop", &config).unwrap().load(&L::device()).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&BlockError::UnusedWeights { file }), "{error}");
}
