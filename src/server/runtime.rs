//! What runs the tasks that serve clients.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// A runtime that serves clients on so many threads. If it is one, it is the one that calls
/// [`Runtime::block_on`]: tokio's runtime of a single thread need not look whether others have tasks to give or
/// would take some, which gains up to a tenth. What takes long has threads of its own in both.
///
/// # Errors
///
/// The system gives no thread, or no descriptor.
pub fn runtime(threads: usize) -> io::Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder
        .worker_threads(threads)
        .thread_name("postres-worker")
        .enable_all()
        .build()
}
