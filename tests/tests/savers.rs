//! Checkpoints among many savers, in two processes, of which one is killed; and a training that is killed again and again.
//!
//! `SKEP_SAVES` sets the number of saves beside those of the process that is killed (400 unless set), `SKEP_KILLS` the number
//! of kills of the training (8 unless set).
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, which talk to each other by their output"
)]

use skep_runtime_core::{Backend, BlockState, Fit, HostTensor};
use skep_tests::Learner;
use skep_tests::kit::{Alone, Noisy, noise};
use skep_toolkit::checkpoint::{CheckpointDir, Saved, decode};
use skep_toolkit::{AdamW, Block, Optimizer};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{env, fs, thread};

/// In the environment of a process that this test starts of itself: what it is to do, and where.
const PART: &str = "SKEP_SAVERS_PART";
const FOLDER: &str = "SKEP_SAVERS_FOLDER";
const SAVERS: usize = 4;

fn number(name: &str, unless_set: usize) -> usize {
    env::var(name).map_or(unless_set, |text| text.parse().unwrap())
}

/// Starts this test once more, as another process.
fn start(part: &str, folder: &Path) -> Child {
    let test = format!("{part}_in_a_process_of_its_own");
    Command::new(env::current_exe().unwrap())
        .args([&test, "--exact", "--nocapture", "--test-threads=1"])
        .env(PART, part)
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The folder, in a process that was started for this part.
fn part(name: &str) -> Option<PathBuf> {
    let asked = env::var(PART).is_ok_and(|part| part == name);
    if !asked {
        println!("skipped: this is for the processes that the other tests start");
    }
    asked.then(|| env::var_os(FOLDER).unwrap().into())
}

/// A state that no other saver has, large enough to be written in several pieces.
fn state(saver: u32, save: u32) -> BlockState {
    let mut state = BlockState::default();
    let values = vec![
        f32::from(u16::try_from(saver).unwrap())
            + f32::from(u16::try_from(save).unwrap()) / 8192.0;
        20_000
    ];
    state.parameters.insert("w".into(), HostTensor::from_f32(&[values.len()], &values).unwrap());
    state.scalars.insert("note.saver".into(), saver.to_string());
    state.scalars.insert("note.save".into(), save.to_string());
    state
}

/// Whose state a file holds.
fn whose(state: &BlockState) -> (u32, u32) {
    let number = |name: &str| state.scalars[name].parse().unwrap();
    (number("note.saver"), number("note.save"))
}

/// Saves, and tells each save that was `Ok`.
fn save(folder: &Path, first: u32, saves: u32, keep: usize, done: &(dyn Fn(u32, u32, &Saved) + Sync)) {
    thread::scope(|scope| {
        for saver in first..first + u32::try_from(SAVERS).unwrap() {
            scope.spawn(move || {
                let dir = CheckpointDir::new(folder, "block", keep).unwrap();
                for save in 0..saves {
                    let file = dir.save(&state(saver, save)).unwrap();
                    assert!(!file.unchanged && file.unpruned.is_empty());
                    done(saver, save, &file);
                }
            });
        }
    });
}

#[test]
fn savers_in_a_process_of_its_own() {
    let Some(folder) = part("savers") else { return };
    // As many as come until it is killed.
    save(&folder, 100, 60_000, usize::MAX, &|saver, save, saved| {
        println!("saved {saver} {save} {}", saved.path.display());
    });
}

/// Eight savers in two processes, of which one is killed in the middle, and a reader all along: each `Ok` is that
/// caller's state, no file under its name is torn, and nothing is lost.
#[test]
fn every_ok_is_that_caller_s_state() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let saves = u32::try_from(number("SKEP_SAVES", 400) / SAVERS).unwrap();
    let mut other = start("savers", folder);
    let lines = BufReader::new(other.stdout.take().unwrap()).lines();
    let told = std::sync::Mutex::new(BTreeMap::new());
    let count = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let tell = |saver: u32, save: u32, path: PathBuf| {
        let before = told.lock().unwrap().insert(path.clone(), (saver, save));
        assert_eq!(before, None, "{} was given twice", path.display());
    };
    let reads = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let dir = CheckpointDir::new(folder, "block", 1).unwrap();
            let (mut reads, mut newest) = (0, PathBuf::new());
            while !over.load(Ordering::SeqCst) {
                let found = dir.load().unwrap();
                assert!(found.skipped.is_empty(), "{:?}", found.skipped);
                let Some((path, _)) = found.found else { continue };
                assert!(path >= newest, "{} after {}", path.display(), newest.display());
                (reads, newest) = (reads + 1, path);
            }
            reads
        });
        let of_other = scope.spawn(|| {
            // A line that was cut off by the end of its process told nobody anything.
            for line in lines.map_while(Result::ok) {
                let mut words = line.split(' ').skip_while(|word| *word != "saved").skip(1);
                let (Some(who), Some(which), Some(path)) = (words.next(), words.next(), words.next()) else {
                    continue;
                };
                if path.ends_with(".safetensors") {
                    tell(who.parse().unwrap(), which.parse().unwrap(), path.into());
                }
            }
        });
        save(folder, 0, saves, usize::MAX, &|saver, save, saved| {
            tell(saver, save, saved.path.clone());
            if count.fetch_add(1, Ordering::SeqCst) == SAVERS * usize::try_from(saves).unwrap() / 2 {
                kill(other.id());
            }
        });
        other.wait().unwrap();
        of_other.join().unwrap();
        over.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });

    let told = told.into_inner().unwrap();
    for (path, of) in &told {
        let state = decode(&fs::read(path).unwrap()).unwrap();
        assert_eq!(whose(&state), *of, "{}", path.display());
        assert_eq!(state, self::state(of.0, of.1));
    }
    let ours = told.values().filter(|(saver, _)| *saver < 100).count();
    assert_eq!(ours, SAVERS * usize::try_from(saves).unwrap(), "nothing is lost");
    // Files that nobody was told of are whole too; what the killed process has left goes with the next save.
    let dir = CheckpointDir::new(folder, "block", 3).unwrap();
    dir.save(&state(1000, 0)).unwrap();
    let mut files = 0;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            decode(&fs::read(&path).unwrap()).unwrap();
            files += 1;
        } else {
            assert_eq!(path.file_name().unwrap(), "lock");
        }
    }
    assert_eq!(files, 3);
    println!("{} saves of {} told by two processes, {reads} reads", told.len(), 2 * SAVERS);
}

#[cfg(unix)]
fn kill(process: u32) {
    assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
}

fn kills() -> u32 {
    u32::try_from(number("SKEP_KILLS", 8)).unwrap()
}

/// Enough for each kill to meet a training that is not at its end.
fn all_steps() -> u32 {
    10 * kills().max(6)
}

/// With dropout, whose random numbers are part of the state.
fn block<L: Learner>() -> Alone<L> {
    let adamw = Optimizer::adamw(AdamW::default().learning_rate(0.05)).with_max_norm(1.0);
    Alone::new(Block::of("noisy", Noisy).unwrap().with_seed(3).with_optimizer(adamw).unwrap())
}

/// The step after so many others: its batch depends on nothing else.
fn step<L: Learner>(block: &mut Alone<L>, done: u32) {
    block.backward(&[noise(&[8, 4], done)], &[noise(&[8, 4], 1000 + done)]).unwrap();
}

/// Trains from the newest checkpoint on, and saves after each step.
fn train<L: Learner>(folder: &Path) {
    let dir = CheckpointDir::new(folder, "ffn", 2).unwrap();
    let mut block = block::<L>();
    if let Some((_, state)) = dir.load().unwrap().found {
        block.block.restore(&state, Fit::Exact).unwrap();
    }
    let done = |block: &Alone<L>| u32::try_from(block.block.training().unwrap().steps).unwrap();
    while done(&block) < all_steps() {
        let before = done(&block);
        step(&mut block, before);
        dir.save(&block.state()).unwrap();
        println!("stepped {}", done(&block));
    }
}

#[test]
fn training_in_a_process_of_its_own() {
    let Some(folder) = part("training") else { return };
    train::<Subject>(&folder);
}

#[cfg(feature = "tch")]
type Subject = skep_tests::backends::Tch;
#[cfg(not(feature = "tch"))]
type Subject = skep_tests::backends::Candle;

/// To the bit, whenever it is killed.
#[test]
fn a_training_that_is_killed_ends_as_one_that_was_not() {
    let mut whole = block::<Subject>();
    (0..all_steps()).for_each(|done| step(&mut whole, done));

    let root = tempfile::tempdir().unwrap();
    let dir = CheckpointDir::new(root.path(), "ffn", 2).unwrap();
    let (mut done, mut midway) = (0, 0);
    for run in 0..kills() {
        let mut process = start("training", root.path());
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // At a time that is not that of a step: some of the way into what comes after one, or right at the start.
        let steps = lines.by_ref().map_while(Result::ok).filter(|line| line.contains("stepped"));
        let _: Vec<String> = steps.take(usize::from(run % 3 != 0)).collect();
        (0..noise(&[1], run).bytes()[1]).for_each(|_| thread::yield_now());
        process.kill().unwrap();
        process.wait().unwrap();
        let newest = dir.load().unwrap();
        assert!(newest.skipped.is_empty(), "{:?}", newest.skipped);
        let now = newest.found.map_or(0, |(_, state)| state.scalars["step"].parse().unwrap());
        assert!(now >= done, "{now} steps after {done}");
        done = now;
        midway += u32::from(done < all_steps());
    }
    let mut last = start("training", root.path());
    let mut text = String::new();
    last.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(last.wait().unwrap().success(), "{text}");
    let state = dir.load().unwrap().found.unwrap().1;
    assert_eq!(state, whole.state());
    let (kills, steps) = (kills(), all_steps());
    println!("{kills} kills, {midway} of them before the end, the last after {done} of {steps} steps");
}
