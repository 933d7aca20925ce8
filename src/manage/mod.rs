//! Administrative operations, each authorized, audited and committed in one place, whoever calls.
