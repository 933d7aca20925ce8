//! Log lines through a bounded queue and a writer thread.
