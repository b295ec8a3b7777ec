//! Deliberate bugs, so that the tests which must catch them can be seen to catch them (protocol §3.10, "variant").
//!
//! Exist only with the feature `deliberate-bugs`, which a release build refuses; without it [`active`] is the constant
//! `false` and the compiler removes every trace. Chosen at run time and for one thread only: one test binary tries each bug,
//! and tests that run in parallel do not see each other's.

#[cfg(all(feature = "deliberate-bugs", not(debug_assertions)))]
compile_error!("the feature `deliberate-bugs` is for debug builds of tests only");

/// One rule taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// The sticky `owned` field is neither written nor read (protocol §3.4, trap 2).
    NoOwned,
    /// A commit does not read the claims again.
    NoRereadInCommit,
    /// Claimants of one term neither wait nor withdraw (protocol §3.4, step 5c).
    NoWithdrawal,
    /// `Resigned` counts as `Withdrawn`; without `owned`, which would cover for it (protocol §3.4, trap 1).
    ResignedLikeWithdrawn,
    /// The first barrier of a level is passed before every participant has acknowledged it.
    BarrierSkipped,
    /// A forced leave starts the levels' recovery before the certainty that they need (protocol I-F1).
    RecoveryBeforeProof,
}

/// True if `bug` is to be made on this thread.
#[cfg(not(feature = "deliberate-bugs"))]
#[must_use]
#[inline(always)]
pub const fn active(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "deliberate-bugs")]
pub use chosen::{Active, activate, active, with};

#[cfg(feature = "deliberate-bugs")]
mod chosen {
    use std::cell::Cell;
    use std::marker::PhantomData;

    use super::Bug;

    thread_local! {
        static ACTIVE: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// True if `bug` is to be made on this thread.
    #[must_use]
    pub fn active(bug: Bug) -> bool {
        ACTIVE.get() == Some(bug)
    }

    /// Makes `bug` (or none) on this thread until the guard is dropped.
    #[must_use]
    pub fn activate(bug: Option<Bug>) -> Active {
        Active { before: ACTIVE.replace(bug), stays_on_its_thread: PhantomData }
    }

    /// Runs `f` with `bug` (or none) on this thread.
    pub fn with<R>(bug: Option<Bug>, f: impl FnOnce() -> R) -> R {
        let _active = activate(bug);
        f()
    }

    /// Puts back what was active before.
    #[derive(Debug)]
    pub struct Active {
        before: Option<Bug>,
        stays_on_its_thread: PhantomData<*const ()>,
    }

    impl Drop for Active {
        fn drop(&mut self) {
            ACTIVE.set(self.before);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_bug_is_active_on_its_thread_until_its_guard_goes() {
            with(Some(Bug::NoOwned), || {
                assert!(active(Bug::NoOwned) && !active(Bug::NoWithdrawal));
                assert!(!std::thread::spawn(|| active(Bug::NoOwned)).join().unwrap());
                with(None, || assert!(!active(Bug::NoOwned)));
                assert!(active(Bug::NoOwned));
            });
            assert!(!active(Bug::NoOwned));
        }
    }
}
