//! Tools with which the cases are written.

mod alone;
mod blocks;
mod damage;
mod figures;
mod gate;
mod held;
mod hooked;
mod hostile;
mod logs;
mod moody;
mod numbers;
mod overheard;
mod process;
mod rig;
mod specs;
mod waits;

pub use alone::Alone;
pub use blocks::{Columns, columns, named_schema, rows_block, schema};
pub use damage::{Damage, damage, for_all};
pub use figures::{Figure, figures};
pub use gate::{Gate, gated};
pub use held::{Bench, Known};
pub use hooked::{Hooked, Operation};
pub use hostile::{Bomb, HostileError, HostileObserver, eat_wake_up};
pub use logs::{Log, quiet_panics};
pub use moody::{Method, Moody};
pub use numbers::{assert_close, in_dtype, noise, numbers, rows_of, wide_numbers, write_weights};
pub use overheard::Overheard;
pub use process::{threads, threads_left};
pub use rig::{On, Rig, new_builder, pool_of, rig};
pub use specs::{Adder, Bare, Bias, CutOff, Derived, Idle, Noisy, Normed, Odd, Pupil, Two};
pub use waits::{
    LIMIT, all_succeed, answer, block_on, drain, limited, poll_once, poll_pending, receive, spawn, values_of,
};
