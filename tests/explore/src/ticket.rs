//! Both ends of an answer.

crate::programs! {
    an_answer_meets_a_wait: 3,
    an_answer_meets_a_drop: 3,
    an_answer_meets_an_await: 3,
    a_ticket_changes_hands: 3,
    a_wait_that_is_over_at_once_loses_nothing: 3,
    a_dropped_reply_is_an_answer: 3,
    parts_make_one_answer: 3,
    a_part_that_fails_is_the_answer: 3,
}

mod programs {
    use crate::{block_on, waker};
    use shuttle::thread::spawn;
    use skep_runtime_core::pool::{AfterAnswer, Cancel, Rank, Reply, TaskKey};
    use skep_runtime_core::sync::Mutex;
    use skep_runtime_core::{Priority, RuntimeId, TaskError};
    use std::pin::Pin;
    use std::sync::{Arc, Weak};
    use std::task::Context;
    use std::time::Duration;

    pub(super) fn an_answer_meets_a_wait() {
        let (ticket, reply) = Reply::pair();
        let answering = spawn(move || reply.answer(Ok(vec![7])));
        assert_eq!(ticket.wait().unwrap(), [7]);
        answering.join().unwrap();
    }

    #[derive(Default)]
    struct Cancelled(Mutex<Vec<TaskKey>>);

    impl Cancel for Cancelled {
        fn cancel(&self, task: TaskKey) {
            self.0.lock().push(task);
        }
        fn forget(&self, task: TaskKey) -> Option<AfterAnswer> {
            self.0.lock().push(task);
            None
        }
        fn runtime(&self) -> Option<RuntimeId> {
            None
        }
    }

    pub(super) fn an_answer_meets_a_drop() {
        let pool = Arc::new(Cancelled::default());
        let (ticket, reply) = Reply::pair_in(Arc::downgrade(&pool) as Weak<_>);
        let key = TaskKey { rank: Rank::new(Priority::NORMAL, 5), seq: 3, shape: 0 };
        reply.queued(key, Duration::ZERO);
        let dropping = spawn(move || drop(ticket));
        // The value is dropped with whichever end is the last.
        let value = Arc::new(());
        reply.answer(Ok(vec![Arc::clone(&value)]));
        dropping.join().unwrap();
        assert_eq!(Arc::strong_count(&value), 1);
        let cancelled = pool.0.lock().clone();
        assert!(cancelled.is_empty() || cancelled == [key]);
    }

    pub(super) fn an_answer_meets_an_await() {
        let (ticket, reply) = Reply::pair();
        let answering = spawn(move || reply.answer(Ok(vec![7])));
        assert_eq!(block_on(ticket).unwrap(), [7]);
        answering.join().unwrap();
    }

    pub(super) fn a_ticket_changes_hands() {
        let (mut ticket, reply) = Reply::pair();
        let answering = spawn(move || reply.answer(Ok(vec![7])));
        let waker = waker();
        let polled = Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker));
        let waiting = spawn(move || ticket.wait());
        let waited = waiting.join().unwrap();
        // Whoever is first has it, and there is no second answer.
        if polled.is_pending() {
            assert_eq!(waited.unwrap(), [7]);
        } else {
            assert!(matches!(waited, Err(TaskError::Taken)));
        }
        answering.join().unwrap();
    }

    pub(super) fn a_wait_that_is_over_at_once_loses_nothing() {
        let (ticket, reply) = Reply::pair();
        let answering = spawn(move || reply.answer(Ok(vec![7])));
        let result = ticket.wait_timeout(Duration::ZERO).unwrap_or_else(skep_runtime_core::Ticket::wait);
        assert_eq!(result.unwrap(), [7]);
        answering.join().unwrap();
    }

    pub(super) fn a_dropped_reply_is_an_answer() {
        let (ticket, reply) = Reply::<u8>::pair();
        let (other, settling) = Reply::<u8>::pair();
        let dropping = spawn(move || {
            drop(reply);
            drop(settling.settle(Ok(vec![1])));
        });
        assert!(matches!(ticket.wait(), Err(TaskError::ShutDown)));
        assert_eq!(block_on(other).unwrap(), [1]);
        dropping.join().unwrap();
    }

    /// Answers the two parts of a task on two threads, and counts how often it was settled.
    fn two_parts(second: Result<Vec<u8>, TaskError>) -> Result<Vec<u8>, TaskError> {
        let (ticket, reply) = Reply::pair();
        let mut two = reply.in_parts(Box::new(|parts| Ok(parts.concat())));
        let one = two.split_off();
        let answering = [(one, Ok(vec![1])), (two, second)].map(|(reply, result)| {
            spawn(move || {
                reply.is_void();
                reply.settle(result).is_some()
            })
        });
        let answer = ticket.wait();
        let settled = answering.map(|thread| usize::from(thread.join().unwrap()));
        assert_eq!(settled.iter().sum::<usize>(), 1, "settled by one part");
        answer
    }

    pub(super) fn parts_make_one_answer() {
        assert_eq!(two_parts(Ok(vec![2])).unwrap(), [1, 2]);
    }

    pub(super) fn a_part_that_fails_is_the_answer() {
        let waited = Duration::ZERO;
        assert!(matches!(two_parts(Err(TaskError::Expired { waited })), Err(TaskError::Expired { .. })));
    }
}
