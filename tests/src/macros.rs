//! What makes a list of cases a module of tests.

/// Makes a module of tests for one topic.
#[doc(hidden)]
#[macro_export]
macro_rules! cases {
    ($subject:ty, $topic:ident: $($case:ident,)*) => {
        mod $topic {
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::kit::limited(stringify!($case), $crate::suite::$topic::$case::<$subject>);
                }
            )*
        }
    };
}

/// Makes a module of tests for one topic that print why they are skipped.
#[doc(hidden)]
#[macro_export]
macro_rules! skipped {
    ($reason:literal, $topic:ident: $($case:ident,)*) => {
        mod $topic {
            $(
                #[test]
                fn $case() {
                    println!("skipped: {}", $reason);
                }
            )*
        }
    };
}
