//! What the commands on strings compute: functions of byte strings, without a store or replies.
//!
//! Their results are Valkey 9.1's, bit for bit, and equal on every platform, since they decide what
//! a replayed operation does (P5). Where one differs, its documentation says so. Each is bounded in
//! time and memory by the sizes of what it is given and by limits that stand beside it.

mod bignum;
pub mod bitfield;
pub mod bits;
pub mod float;
pub mod glob;
pub mod lcs;
pub mod number;
pub mod range;
