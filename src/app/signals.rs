//! Ctrl-C and what else asks a program to end.

use std::io;

/// What people and systems send to end a program.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    unix: [tokio::signal::unix::Signal; 3],
}

impl Signals {
    /// Listens from now on; the system's own way of ending the program is off.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let unix = [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ];
            Ok(Self { unix })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// The next one.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate, hangup] = &mut self.unix;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
