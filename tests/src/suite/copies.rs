//! Copies of a block that is trained on another device.

use super::training::{INPUTS, OUTPUTS, random};
use crate::kit::{Columns, LIMIT, answer, drain, new_builder};
use crate::subject::{Learner, Learning};
use skep_pool::{Copies, Serve, ServeOptions};
use skep_runtime_core::{BlockState, ControlError, Handle, Shutdown};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// They get its parameters when they are asked to, and every so often; what cannot be reached is named, and holds up nobody.
pub fn copies_follow_the_block_that_is_trained<L: Learner>() {
    let [mut first, mut second] = [(); 2].map(|()| new_builder(L::device(), 0).0);
    let device = Arc::clone(first.device());
    // They meet over one queue, so they need one clock.
    let clock = first.clock_handle();
    second = second.clock(clock);
    let home = first.serve(L::ffn("home", 1, Learning::Sgd { rate: 0.1 }), ServeOptions::default()).unwrap();
    second.join(L::ffn("copy", 99, Learning::Off), &home).unwrap();
    let (first, second) = (first.start().unwrap(), second.start().unwrap());
    let parameters = |handle: &Handle<_>, name: &str| -> BlockState {
        let mut state = handle.state(name).unwrap();
        state.optimizer.clear();
        state.scalars.clear();
        state
    };
    let is_copied = || parameters(second.handle(), "copy") == parameters(first.handle(), "home");
    let train = || {
        let (x, gradient) = (random(2, 2 * INPUTS), random(3, 2 * OUTPUTS));
        let task = [(INPUTS, x), (OUTPUTS, gradient)]
            .map(|(width, values)| Columns::shaped(&*device, &[2, width], &values));
        answer(home.backward.as_ref().unwrap().submit(Vec::from(task)).unwrap()).unwrap();
    };
    let all = || vec![(second.handle().clone(), "copy".to_owned())];
    let start = |copies, every| Copies::start(first.handle().clone(), "home", copies, every);
    assert_eq!(start(all(), Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidInput);

    let with_another =
        [("none", &first), ("copy", &second)].map(|(name, at)| (at.handle().clone(), name.to_owned()));
    let copies = start(with_another.into(), Duration::MAX).unwrap();
    let now = || copies.now(LIMIT).expect("should have been over").unwrap();
    assert!(!is_copied());
    for _ in 0..2 {
        train();
        assert!(!is_copied());
        let done = now();
        assert_eq!(done.updated, 1);
        let [(0, ControlError::UnknownBlock { name })] = &done.failed[..] else { panic!("{done:?}") };
        assert_eq!(name, "none");
        assert!(is_copied());
    }
    assert_eq!(now().updated, 0, "it is up to date");
    assert!(copies.stop(LIMIT));

    // Whichever device answers, it is with the same parameters.
    let x = random(5, INPUTS);
    let ask = || home.forward.submit(vec![Columns::shaped(&*device, &[1, INPUTS], &x)]).unwrap();
    let answers: Vec<_> = (0..16).map(|_| ask()).collect();
    let answers: Vec<_> =
        answers.into_iter().map(|ticket| Columns::read(&*device, &answer(ticket).unwrap()[0])).collect();
    for got in &answers[1..] {
        crate::kit::assert_close(got, &answers[0], 1e-5);
    }

    let every = start(all(), Duration::from_millis(1)).unwrap();
    train();
    let until = Instant::now() + LIMIT;
    while !is_copied() {
        assert!(Instant::now() < until, "it should have been copied by now");
        std::thread::yield_now();
    }
    drop(every);
    first.handle().remove("home", Shutdown::Drain, LIMIT).unwrap();
    let late = start(all(), Duration::MAX).unwrap();
    let gone = late.now(LIMIT).expect("should have been over");
    assert!(matches!(gone, Err(ControlError::UnknownBlock { .. })), "{gone:?}");
    drop(late);
    drain(first);
    drain(second);
}
