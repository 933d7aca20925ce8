//! What a provider account shows to its provider. Sealed at rest; never shown.

use std::collections::BTreeMap;

use crate::secret::Secret;

/// A credential, opened.
#[derive(Debug)]
pub enum Credential {
    /// A key: a bearer token, or what stands in the provider's own header (`api-key`, `x-api-key`, `x-goog-api-key`).
    ApiKey(Secret),
    /// RFC 7617.
    Basic {
        /// Without a colon.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Headers of the operator's own choice; names in lower case.
    Headers(BTreeMap<String, Secret>),
    /// Microsoft Entra client credentials.
    EntraClientSecret {
        /// The directory.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
    /// AWS access keys, signed with by SigV4.
    AwsAccessKey(AwsAccessKey),
    /// An AWS role, assumed through STS.
    AwsAssumedRole {
        /// The role.
        role_arn: String,
        /// What its trust policy asks for.
        external_id: Option<String>,
        /// Who assumes it; `None`: the machine's own credentials, where the configuration allows them.
        source: Option<AwsAccessKey>,
    },
    /// The machine's own AWS credentials (instance or container), where the configuration allows them.
    AwsMachine,
    /// A Google service account's key file: JSON with `client_email`, `private_key`, `private_key_id`, `token_uri`.
    GoogleServiceAccount {
        /// The file's text.
        key_file: Secret,
    },
}

/// AWS access keys.
#[derive(Debug)]
pub struct AwsAccessKey {
    /// `AKIA...`
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: Secret,
    /// For temporary credentials.
    pub session_token: Option<Secret>,
}
