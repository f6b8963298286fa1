//! Keeps the manager process small: one heap for all threads, and what was freed in a storm goes back to the system.
//!
//! Invariant: nothing here is needed for anything to work; where the C library cannot do it, nothing happens.
#![allow(unsafe_code)] // two calls into the C library, which the standard library has no names for

/// From now on all threads allocate from one heap. With a heap for each, what one thread has freed is of no use to the
/// others; and the manager's two threads seldom allocate at the same time. Without effect on heaps that are there.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn share_one_heap() {
    // SAFETY: `mallopt` may be called at any time; it takes the allocator's own locks and only changes a bound.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Returns whole free pages of the heap to the system. Takes some milliseconds for each ten megabytes of heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn give_back() {
    // SAFETY: `malloc_trim` may be called at any time and from any thread; it takes the allocator's own locks, and
    // touches only memory that nobody has allocated.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have one heap, or do as they like.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn share_one_heap() {}

/// Other C libraries give memory back by themselves, or never.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}
