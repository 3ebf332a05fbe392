//! A small BERT with drawn weights, beside the same sums written out.

use crate::kit::small_bert::{CONFIG, HIDDEN, POSITIONS, VOCAB, by_hand, weights, write};
use crate::kit::{Alone, assert_close, numbers};
use crate::subject::Learner;
use skep_runtime_core::{Backend, Chain, Dim, HostTensor};
use skep_toolkit::Block;
use skep_toolkit::blocks::Bert;
use std::fs;
use std::path::Path;

fn bert<L: Learner>(directory: &Path) -> Block<L::Library> {
    Block::of("bert", Bert::open(directory).unwrap()).unwrap()
}

fn loaded_bert<L: Learner>() -> Alone<L> {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), CONFIG, &weights(""));
    Alone::new(bert::<L>(directory.path()))
}

fn embed<L: Learner>(block: &mut Alone<L>, ids: &[Vec<u32>], mask: &[Vec<u32>]) -> Vec<f32> {
    let tensor =
        |rows: &[Vec<u32>]| HostTensor::from_u32(&[rows.len(), rows[0].len()], &rows.concat()).unwrap();
    numbers(&block.forward(&[tensor(ids), tensor(mask)]).unwrap()[0])
}

/// No caller can make the model read outside of its tables.
pub fn the_schema_guards_the_token_table_and_the_positions<L: Learner>() {
    let info = loaded_bert::<L>().block.info();
    assert!(!info.backward);
    let [ids, mask] = info.inputs.tensors() else { panic!("two inputs") };
    assert_eq!((ids.name(), ids.index_below()), ("input_ids", Some(VOCAB as u64)));
    assert_eq!((mask.name(), mask.index_below()), ("attention_mask", Some(2)));
    assert_eq!(ids.dims()[1], Dim::Free { max: POSITIONS });
}

/// Nor on the padding.
pub fn embeddings_have_length_one_and_do_not_depend_on_the_batch<L: Learner>() {
    let mut block = loaded_bert::<L>();
    let ids = vec![vec![1, 2, 3, 4], vec![5, 6, 0, 0], vec![10, 0, 0, 0]];
    let mask = vec![vec![1, 1, 1, 1], vec![1, 1, 0, 0], vec![1, 0, 0, 0]];
    let together = embed(&mut block, &ids, &mask);
    for (row, length) in [4, 2, 1].into_iter().enumerate() {
        let own = &together[row * HIDDEN..][..HIDDEN];
        assert!((own.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        // Alone, and without the padding.
        let alone = embed(&mut block, &[ids[row][..length].to_vec()], &[vec![1; length]]);
        assert_close(own, &alone, 1e-5);
    }
    assert!((together[0] - together[HIDDEN]).abs() > 1e-3);
}

/// And not what a division by nothing gives.
pub fn a_row_of_padding_only_gives_zeros<L: Learner>() {
    let both = embed(&mut loaded_bert::<L>(), &[vec![0, 0], vec![3, 4]], &[vec![0, 0], vec![1, 1]]);
    assert_eq!(both[..HIDDEN], [0.0; HIDDEN]);
    assert!(both[HIDDEN..].iter().all(|v| v.is_finite()));
}

/// Written out for one number after the other.
pub fn the_embedding_is_the_models_own_sum<L: Learner>() {
    let ids = [7usize, 2, 9];
    let got = embed(
        &mut loaded_bert::<L>(),
        &[ids.iter().map(|&id| u32::try_from(id).unwrap()).collect()],
        &[vec![1; 3]],
    );
    assert_close(&got, &by_hand(weights(""), &ids), 1e-4);
}

/// Some files are published like this.
pub fn weights_with_the_models_name_before_them_are_found<L: Learner>() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), CONFIG, &weights("bert."));
    let mut named = Alone::<L>::new(bert::<L>(directory.path()));
    let (ids, mask) = ([vec![1, 2]], [vec![1, 1]]);
    assert_eq!(embed(&mut named, &ids, &mask), embed(&mut loaded_bert::<L>(), &ids, &mask));
}

#[track_caller]
fn load_error<L: Learner>(directory: &Path) -> String {
    Chain(&*bert::<L>(directory).load(&L::device()).unwrap_err()).to_string()
}

/// One that is missing, and one of other dims.
pub fn weights_that_do_not_fit_the_sizes_are_named<L: Learner>() {
    let directory = tempfile::tempdir().unwrap();
    let mut tensors = weights("");
    tensors.remove("encoder.layer.1.output.dense.bias");
    write(directory.path(), CONFIG, &tensors);
    let error = load_error::<L>(directory.path());
    assert!(error.contains("weights file has no tensor `encoder.layer.1.output.dense.bias`"), "{error}");

    write(directory.path(), &CONFIG.replace(r#""vocab_size": 11"#, r#""vocab_size": 12"#), &weights(""));
    let error = load_error::<L>(directory.path());
    assert!(
        error.contains("`embeddings.word_embeddings.weight` has dims [11, 8], expected [12, 8]"),
        "{error}"
    );
}

/// Wherever the file ends.
pub fn torn_weights_are_never_loaded<L: Learner>() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), CONFIG, &weights(""));
    let file = directory.path().join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    for length in [0, 5, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        let error = load_error::<L>(directory.path());
        assert!(error.contains("is not a whole safetensors file"), "{length} bytes: {error}");
    }
}

/// With the file, and what would be right.
pub fn a_directory_without_a_model_is_refused_when_the_block_is_made<L: Learner>() {
    let refused = |directory: &Path| Chain(&Bert::open(directory).err().unwrap()).to_string();
    let directory = tempfile::tempdir().unwrap();
    let error = refused(directory.path());
    assert!(error.contains("config.json`, expected a file that can be read"), "{error}");

    write(directory.path(), CONFIG, &weights(""));
    fs::remove_file(directory.path().join("model.safetensors")).unwrap();
    assert!(refused(directory.path()).contains("expected a `model.safetensors` in it"));

    let config = directory.path().join("config.json");
    fs::write(&config, &CONFIG[..CONFIG.len() / 2]).unwrap();
    assert!(refused(directory.path()).contains("expected the sizes of a BERT model: EOF"));
    fs::write(&config, CONFIG.replace(r#""num_attention_heads": 2"#, r#""num_attention_heads": 0"#)).unwrap();
    assert!(refused(directory.path()).contains("`num_attention_heads` from 1 to 16777216 in it, got 0"));
    fs::write(&config, CONFIG.replace(r#""num_attention_heads": 2"#, r#""num_attention_heads": 3"#)).unwrap();
    assert!(refused(directory.path()).contains("a multiple of 3 heads, got 8"));
}
