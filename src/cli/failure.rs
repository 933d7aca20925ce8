//! Why a command did not do what it was asked.

use std::fmt;

use super::client::ClientError;

/// Why a command ended.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong: exit code 2.
    Usage(String),
    /// A file, an environment variable or the configuration is not as it must be.
    Input(String),
    /// The gateway could not be reached.
    Client(ClientError),
    /// The gateway answered with a refusal.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The gateway's own words.
        message: String,
    },
    /// The answer is no, and has been printed: exit code 1, without an error message.
    No,
    /// Nobody reads standard output any more: end quietly.
    ClosedPipe,
    /// Standard output could not be written.
    Output(std::io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Input(message) | Self::Refused { message, .. } => {
                f.write_str(message)
            }
            Self::Client(error) => error.fmt(f),
            Self::No => f.write_str("no"),
            Self::ClosedPipe => f.write_str("standard output was closed"),
            Self::Output(error) => write!(f, "standard output can not be written: {error}"),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl Failure {
    /// The HTTP status, when the gateway answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Client(error) => error.status(),
            _ => None,
        }
    }
}
