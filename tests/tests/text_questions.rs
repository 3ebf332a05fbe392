//! What is asked of a text model besides its numbers: order, parts of long texts, prompts, cutting, awaiting.
//!
//! The numbers themselves are held to those of `PyTorch` in `text_models`; here answers are compared with those to
//! other questions, put in another way.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use skep_models::{Ask, Model, Prompt, Ranked, TextError, TextModel, TooLong};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::testing::ManualClock;
use skep_runtime_core::{PadTo, RuntimeBuilder, TaskError};
use skep_tests::Learner;
use skep_tests::kit::{block_on, drain, new_builder, poll_once, poll_pending, receive};
use skep_toolkit::Config;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// The same tokens in another batch.
const TOLERANCE: f32 = 1e-5;

/// More tokens than the models take, each word one token.
const LONG: &str = "the cat sat on the mat and the dog ran on and the cat sat on that mat and the dog sat on the cat and \
                    that dog ran and ran and the mat ran on and on";

/// A batch waits for company until the clock is moved.
fn in_pairs() -> PoolOptions {
    let hour = Duration::from_hours(1);
    PoolOptions::default().max_rows(2).min_rows(2).max_delay(Some(hour))
}

/// Puts questions to one of the suite's models, with a pool of these options.
fn ask<L: Learner>(
    name: &str,
    options: PoolOptions,
    questions: impl FnOnce(&TextModel<L::Device>, &ManualClock),
) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/fixtures").join(name);
    let config = Config::new().with("directory", folder.display());
    let (mut builder, clock) = new_builder(L::device(), 1);
    let model = Arc::new(Model::read(&folder).unwrap());
    let options = ServeOptions::forward(options.padding(model.padding(PadTo::Longest)));
    let served = builder.serve(L::block("text_model", name, &config, None), options).unwrap();
    let text = TextModel::new(model, Arc::clone(builder.device()), Arc::new(served.forward)).unwrap();
    let runtime = builder.start().unwrap();
    questions(&text, &clock);
    drain(runtime);
}

fn of<L: Learner>(name: &str, questions: impl FnOnce(&TextModel<L::Device>)) {
    ask::<L>(name, PoolOptions::default(), |model, _| questions(model));
}

#[track_caller]
fn close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (a, b) in got.iter().zip(expected) {
        assert!((a - b).abs() <= TOLERANCE, "{a} instead of {b}");
    }
}

/// The same ranks, in whatever batches they were found.
#[track_caller]
fn close_ranks(got: &[Ranked], expected: &[Ranked]) {
    let but_scores = |it: &Ranked| (it.document, it.tokens);
    assert!(
        got.iter().map(but_scores).eq(expected.iter().map(but_scores)),
        "{got:?} instead of {expected:?}"
    );
    let scores = |ranks: &[Ranked]| ranks.iter().map(|it| it.score).collect::<Vec<_>>();
    close(&scores(got), &scores(expected));
}

/// A piece of a text by its characters.
fn piece(text: &str, (start, end): (usize, usize)) -> String {
    text.chars().take(end).skip(start).collect()
}

/// The parts overlap by so many words, and nothing is between them, before them or after them.
#[track_caller]
fn cover(text: &str, parts: &[(usize, usize)], overlap: usize) {
    assert!(parts.len() > 1);
    assert_eq!((parts[0].0, parts[parts.len() - 1].1), (0, text.chars().count()));
    for pair in parts.windows(2) {
        let shared = piece(text, (pair[1].0, pair[0].1));
        assert_eq!(shared.split_whitespace().count(), overlap, "{shared}");
    }
}

fn documents_come_in_order<L: Learner>() {
    of::<L>("bert_cross_encoder", |model| {
        let documents = ["on the mat", "a dog", "", "the cat sat", "a dog", "ran and ran and ran"];
        let ranked = model.rerank("the dog", &documents, &Ask::new()).unwrap();
        let places: Vec<_> = ranked.iter().map(|it| it.document).collect();
        let pairs: Vec<_> = documents.iter().map(|it| ("the dog", *it)).collect();
        let scores = model.compare_all(&pairs, &Ask::new()).unwrap();
        for it in &ranked {
            close(&[it.score], &scores[it.document].scores);
            assert_eq!(it.tokens, scores[it.document].tokens);
        }
        assert!(ranked.windows(2).all(|two| two[0].score >= two[1].score), "{places:?}");
        let mut sorted = places.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
        assert_ne!(places, sorted, "the order is another than theirs");
        let of = |document| places.iter().position(|it| *it == document).unwrap();
        assert_eq!(of(4), of(1) + 1, "equal ones in their order: {places:?}");
        assert!(model.rerank::<&str>("the dog", &[], &Ask::new()).unwrap().is_empty());
        close(&model.compare("the dog", "a dog", &Ask::new()).unwrap().scores, &scores[1].scores);
    });
}

fn long_documents_rank_by_their_best_part<L: Learner>() {
    of::<L>("bert_cross_encoder", |model| {
        let documents = ["the cat sat", LONG, "a dog"];
        let ranked = model.rerank_windows("that mat", &documents, 3, &Ask::new()).unwrap();
        assert!(ranked.windows(2).all(|two| two[0].answer.score >= two[1].answer.score));
        let limit = model.model().tokens().unwrap().limit();
        for it in &ranked {
            let text = documents[it.answer.document];
            let own = piece(text, it.characters);
            let alone = model.compare("that mat", &own, &Ask::new().too_long(TooLong::Refuse)).unwrap();
            close(&[it.answer.score], &alone.scores);
            if it.answer.document != 1 {
                assert_eq!((own.as_str(), it.answer.tokens), (text, alone.tokens));
                continue;
            }
            // All other parts of the long one are worse: each place where one can begin is tried.
            assert!(it.answer.tokens.given > limit, "all parts are counted");
            let words: Vec<&str> = text.split(' ').collect();
            let room = limit - model.count_tokens("that mat", &Prompt::None).unwrap() - 1;
            let mut best = f32::NEG_INFINITY;
            let mut start = 0;
            loop {
                let end = (start + room).min(words.len());
                let part = words[start..end].join(" ");
                best = best.max(model.compare("that mat", &part, &Ask::new()).unwrap().scores[0]);
                if end == words.len() {
                    break;
                }
                start += room - 3;
            }
            close(&[it.answer.score], &[best]);
        }
    });
}

/// Each part is answered as a text of its own, behind the prompt.
fn parts_of_long_texts<L: Learner>() {
    let prompts = [("bert_mean", Prompt::None), ("bert_prompts", Prompt::named("query"))];
    for (name, prompt) in prompts.into_iter().chain([("bert_prompts_left_out", Prompt::named("query"))]) {
        of::<L>(name, |model| {
            let ask = Ask::new().prompt(prompt.clone());
            for overlap in [0, 1, 5] {
                let windows = model.embed_windows(LONG, overlap, &ask).unwrap();
                let places: Vec<_> = windows.iter().map(|it| it.characters).collect();
                cover(LONG, &places, overlap);
                for it in &windows {
                    let ask = ask.clone().too_long(TooLong::Refuse);
                    let alone = model.embed(&piece(LONG, it.characters), &ask).unwrap();
                    close(&it.answer.vector, &alone.vector);
                    assert_eq!(it.answer.tokens, alone.tokens);
                }
            }
            let whole = model.embed_windows("the cat", 2, &ask).unwrap();
            assert_eq!((whole.len(), whole[0].characters), (1, (0, 7)));
            assert_eq!(model.embed_windows("", 0, &ask).unwrap().len(), 1);
        });
    }
    of::<L>("bert_sequence", |model| {
        let windows = model.classify_windows(LONG, 4, &Ask::new()).unwrap();
        cover(LONG, &windows.iter().map(|it| it.characters).collect::<Vec<_>>(), 4);
        for it in &windows {
            let alone = model.classify(&piece(LONG, it.characters), &Ask::new()).unwrap();
            close(&it.answer.scores, &alone.scores);
        }
    });
    of::<L>("bert_token", |model| {
        let labelled = model.label_windows(LONG, 6, &Ask::new()).unwrap();
        let words: Vec<_> = labelled.labels.iter().map(|it| piece(LONG, it.characters)).collect();
        assert_eq!(words.join(" "), LONG, "each token once");
        // Up to the middle of what both have, a label is the one that the first part has alone.
        let limit = model.model().tokens().unwrap().limit();
        let first = LONG.split(' ').take(limit - 2).collect::<Vec<_>>().join(" ");
        let alone = model.label(&first, &Ask::new().too_long(TooLong::Refuse)).unwrap();
        let own = alone.labels.len() - 3;
        for (got, expected) in labelled.labels[..own].iter().zip(&alone.labels) {
            assert_eq!((got.label, got.characters), (expected.label, expected.characters));
            close(&[got.score], &[expected.score]);
        }
    });
}

fn parts_that_do_not_advance_are_refused<L: Learner>() {
    of::<L>("bert_mean", |model| {
        let error = model.embed_windows(LONG, 30, &Ask::new()).unwrap_err();
        assert!(matches!(error, TextError::Overlap { overlap: 30, room: 30 }), "{error}");
        let full = Ask::new().prompt(Prompt::Text(LONG.to_owned()));
        let error = model.embed_windows("the cat", 0, &full).unwrap_err();
        assert!(matches!(error, TextError::NoRoom { limit: 32, .. }), "{error}");
    });
    of::<L>("bert_cross_encoder", |model| {
        let error = model.rerank_windows(LONG, &["the cat"], 0, &Ask::new()).unwrap_err();
        assert!(matches!(error, TextError::NoRoom { .. }), "{error}");
    });
}

fn texts_that_are_too_long<L: Learner>() {
    of::<L>("bert_mean", |model| {
        let words: Vec<&str> = LONG.split(' ').collect();
        let (limit, count) = (32, words.len());
        assert_eq!(model.count_tokens(LONG, &Prompt::None).unwrap(), count + 2);
        let ends = [
            (TooLong::Cut, words[..limit - 2].join(" ")),
            (TooLong::CutEnd, words[..limit - 2].join(" ")),
            (TooLong::CutStart, words[count - (limit - 2)..].join(" ")),
        ];
        for (too_long, rest) in ends {
            let cut = model.embed(LONG, &Ask::new().too_long(too_long)).unwrap();
            assert_eq!((cut.tokens.given, cut.tokens.left_out), (limit, count + 2 - limit), "{too_long:?}");
            close(&cut.vector, &model.embed(&rest, &Ask::new().too_long(TooLong::Refuse)).unwrap().vector);
        }
        let error = model.embed(LONG, &Ask::new().too_long(TooLong::Refuse)).unwrap_err();
        assert!(matches!(error, TextError::TooLong { limit: 32, tokens } if tokens == count + 2), "{error}");

        // A prompt is not what is cut.
        let prompted = |too_long| Ask::new().prompt(Prompt::Text("a dog ".to_owned())).too_long(too_long);
        let cut = model.embed(LONG, &prompted(TooLong::CutStart)).unwrap();
        let rest = words[count - (limit - 4)..].join(" ");
        assert_eq!((cut.tokens.given, cut.tokens.left_out), (limit, count + 4 - limit));
        close(&cut.vector, &model.embed(&rest, &prompted(TooLong::Refuse)).unwrap().vector);
    });
    // The folder says that texts lose their beginnings.
    of::<L>("bert_padded_left", |model| {
        assert!(model.model().tokens().unwrap().cuts_left());
        let cut = model.embed(LONG, &Ask::new()).unwrap();
        close(&cut.vector, &model.embed(LONG, &Ask::new().too_long(TooLong::CutStart)).unwrap().vector);
    });
    of::<L>("bert_cross_encoder", |model| {
        let cut = model.compare(LONG, "the cat", &Ask::new()).unwrap();
        assert_eq!(cut.tokens.given, 32);
        assert!(cut.tokens.left_out > 0);
        let error = model.compare(LONG, "the cat", &Ask::new().too_long(TooLong::Refuse)).unwrap_err();
        assert!(matches!(error, TextError::TooLong { .. }), "{error}");
    });
}

fn prompts_are_those_of_the_folder<L: Learner>() {
    of::<L>("bert_prompts", |model| {
        let embed = |text: &str, prompt| model.embed(text, &Ask::new().prompt(prompt)).unwrap().vector;
        assert_eq!(model.model().default_prompt(), Some("clustering"));
        let ask = "the cat";
        close(&embed(ask, Prompt::named("query")), &embed("the dog: the cat", Prompt::None));
        close(&embed(ask, Prompt::Default), &embed("cat and matthe cat", Prompt::None));
        close(&embed(ask, Prompt::Text("the dog: ".to_owned())), &embed(ask, Prompt::named("query")));
        close(&embed(ask, Prompt::named("document")), &embed(ask, Prompt::None));
        let error = model.embed(ask, &Ask::new().prompt(Prompt::named("passage"))).unwrap_err();
        let known = ["clustering", "document", "query"];
        assert!(
            matches!(&error, TextError::NoPrompt { name, known: got } if name == "passage" && got == &known),
            "{error}"
        );
    });
    // Labels are those of the text, at the text's own characters.
    of::<L>("bert_token", |model| {
        let prompted = Ask::new().prompt(Prompt::Text("the dog ".to_owned()));
        let labels = model.label("a cat ran", &prompted).unwrap().labels;
        let whole = model.label("the dog a cat ran", &Ask::new()).unwrap().labels;
        assert_eq!(labels.iter().map(|it| it.characters).collect::<Vec<_>>(), [(0, 1), (2, 5), (6, 9)]);
        for (got, expected) in labels.iter().zip(&whole[2..]) {
            assert_eq!(got.label, expected.label);
            close(&[got.score], &[expected.score]);
        }
    });
}

fn answers_can_be_awaited<L: Learner>() {
    // Two futures on one thread, in one batch.
    ask::<L>("bert_mean", in_pairs(), |model, _| {
        let ask = Ask::new();
        let mut first = Box::pin(model.embed_async("the cat", &ask));
        let woken = poll_pending(&mut first);
        let second = block_on(model.embed_async("a dog", &ask)).unwrap();
        receive(&woken);
        let Poll::Ready(first) = poll_once(&mut first) else { panic!("was woken for nothing") };
        let first = first.unwrap();
        let both = model.embed_all(&["the cat", "a dog"], &ask).unwrap();
        close(&first.vector, &both[0].vector);
        close(&second.vector, &both[1].vector);
    });
    of::<L>("bert_sequence", |model| {
        let ask = Ask::new();
        let one = block_on(model.classify_async("the cat", &ask)).unwrap();
        assert_eq!(block_on(model.classify_all_async(&["the cat"], &ask)).unwrap(), [one]);
        let parts = block_on(model.classify_windows_async(LONG, 2, &ask)).unwrap();
        assert_eq!(parts.len(), model.classify_windows(LONG, 2, &ask).unwrap().len());
    });
    of::<L>("bert_cross_encoder", |model| {
        let (ask, documents) = (Ask::new(), ["the mat", "a dog"]);
        let ranked = block_on(model.rerank_async("the cat", &documents, &ask)).unwrap();
        close_ranks(&ranked, &model.rerank("the cat", &documents, &ask).unwrap());
        let parts = block_on(model.rerank_windows_async("the cat", &documents, 0, &ask)).unwrap();
        close_ranks(&parts.into_iter().map(|it| it.answer).collect::<Vec<_>>(), &ranked);
        let one = block_on(model.compare_async("the cat", "the mat", &ask)).unwrap();
        assert_eq!(block_on(model.compare_all_async(&[("the cat", "the mat")], &ask)).unwrap(), [one]);
    });
    of::<L>("bert_token", |model| {
        let ask = Ask::new();
        let one = block_on(model.label_async("the cat", &ask)).unwrap();
        assert_eq!(block_on(model.label_windows_async("the cat", 0, &ask)).unwrap(), one);
        assert_eq!(block_on(model.label_all_async(&["the cat"], &ask)).unwrap(), [one]);
    });
}

fn a_deadline_holds_for_texts<L: Learner>() {
    ask::<L>("bert_mean", in_pairs(), |model, clock| {
        let minute = Duration::from_mins(1);
        let soon = Ask::new().deadline(minute);
        let mut waiting = Box::pin(model.embed_async("the cat", &soon));
        let woken = poll_pending(&mut waiting);
        clock.advance(minute);
        receive(&woken);
        let Poll::Ready(answer) = poll_once(&mut waiting) else { panic!("was woken for nothing") };
        let error = answer.unwrap_err();
        assert!(
            matches!(error, TextError::Failed(TaskError::Expired { waited }) if waited == minute),
            "{error:?}"
        );
    });
}

/// One of many that is refused takes the others with it: nothing of them is left in the pool.
fn one_text_that_is_refused_cancels_the_others<L: Learner>() {
    ask::<L>("bert_mean", in_pairs(), |model, _| {
        let refuse = Ask::new().too_long(TooLong::Refuse);
        let error = model.embed_all(&["the cat", LONG], &refuse).unwrap_err();
        assert!(matches!(error, TextError::TooLong { .. }), "{error}");
        // "the cat" would have made a pair with the first of these.
        let three = ["a dog", "the mat", "on"];
        let mut later = Box::pin(model.embed_all_async(&three, &refuse));
        let woken = poll_pending(&mut later);
        let fourth = model.embed("the cat", &refuse).unwrap();
        receive(&woken);
        let later = block_on(later).unwrap();
        assert_eq!((later.len(), fourth.tokens.given), (3, 4));
    });
}

fn other_questions_are_refused_by_name<L: Learner>() {
    of::<L>("bert_mean", |model| {
        let ask = Ask::new();
        let errors = [
            model.classify("a", &ask).unwrap_err(),
            model.classify_windows("a", 0, &ask).unwrap_err(),
            model.compare("a", "a", &ask).unwrap_err(),
            model.rerank("a", &["a"], &ask).unwrap_err(),
            model.rerank_windows("a", &["a"], 0, &ask).unwrap_err(),
            model.label("a", &ask).unwrap_err(),
            model.label_windows("a", 0, &ask).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, TextError::OtherKind { .. }), "{error}");
            assert!(error.to_string().starts_with("the model gives a vector for each text"), "{error}");
        }
    });
    of::<L>("bert_sequence", |model| {
        assert!(matches!(model.embed("a", &Ask::new()), Err(TextError::OtherKind { asked: "embed", .. })));
        assert!(matches!(model.embed_windows("a", 0, &Ask::new()), Err(TextError::OtherKind { .. })));
        let error = model.rerank("a", &["a"], &Ask::new()).unwrap_err();
        assert!(matches!(error, TextError::SeveralLabels { labels: 3 }), "{error}");
        let error = model.rerank_windows("a", &["a"], 0, &Ask::new()).unwrap_err();
        assert!(matches!(error, TextError::SeveralLabels { labels: 3 }), "{error}");
    });
}

fn another_model_s_pool_is_refused<L: Learner>() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/fixtures");
    let folder = fixtures.join("bert_prompts_left_out");
    let config = Config::new().with("directory", folder.display());
    let mut builder = RuntimeBuilder::new(L::device());
    let block = L::block("text_model", "prompts", &config, None);
    let served = builder.serve(block, ServeOptions::default()).unwrap();
    let model = Arc::new(Model::read(fixtures.join("bert_mean")).unwrap());
    let made = TextModel::new(model, Arc::clone(builder.device()), Arc::new(served.forward));
    let error = made.err().unwrap();
    assert!(matches!(error, TextError::OtherInputs { .. }), "{error}");
    assert!(error.to_string().contains("pooling_mask"), "{error}");
}

macro_rules! on {
    ($backend:ident, $subject:ident) => {
        on! { $backend, $subject:
            documents_come_in_order,
            long_documents_rank_by_their_best_part,
            parts_of_long_texts,
            parts_that_do_not_advance_are_refused,
            texts_that_are_too_long,
            prompts_are_those_of_the_folder,
            answers_can_be_awaited,
            a_deadline_holds_for_texts,
            one_text_that_is_refused_cancels_the_others,
            other_questions_are_refused_by_name,
            another_model_s_pool_is_refused,
        }
    };
    ($backend:ident, $subject:ident: $($case:ident,)*) => {
        mod $backend {
            $(
                #[test]
                fn $case() {
                    skep_tests::kit::limited(stringify!($case), super::$case::<skep_tests::backends::$subject>);
                }
            )*
        }
    };
}

#[cfg(feature = "candle")]
on!(candle, Candle);

#[cfg(feature = "tch")]
on!(tch, Tch);
