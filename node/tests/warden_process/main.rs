//! The warden with real processes: cgroup v2 where this is root, and the subreaper as an ordinary user.

#[cfg(test)]
mod death;
#[cfg(test)]
mod fence;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod rig;
