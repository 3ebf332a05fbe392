//! The combinations of backend and device: which there are, what each needs of a machine, and what cargo is asked
//! for each.

pub(crate) mod cargo;
pub(crate) mod choice;
pub(crate) mod need;
pub(crate) mod table;
