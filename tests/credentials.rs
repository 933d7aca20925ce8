//! What the gateway shows to providers, as far as it can be seen from outside before any call.

mod support;

use support::Home;

#[test]
fn an_issuer_that_can_not_be_used_ends_the_start_with_the_variables_name() {
    for (name, value) in [
        ("AZURE_AUTHORITY_HOST", "http://login.example.com"),
        ("AZURE_AUTHORITY_HOST", "nonsense"),
        ("AWS_ENDPOINT_URL_STS", "http://169.254.169.254"),
        ("AWS_ENDPOINT_URL_STS", "https://user:the-secret@sts.example.com"),
    ] {
        let Err((_, status, log)) = Home::new("").try_serve_with(&[(name, value.to_owned())]) else {
            panic!("{name}={value} was taken");
        };
        assert!(!status.success());
        assert!(log.contains(&format!("{name} is not an https URL")), "{log}");
        assert!(!log.contains("the-secret"), "{log}");
    }
}

#[test]
fn nobody_is_asked_at_the_start() {
    let entra = support::issuers::refusing_oauth();
    let issuers = support::issuers::Issuers { entra: Some(&entra), ..Default::default() };
    let gateway = Home::new("").serve_with(&issuers.variables());
    gateway.user_token("ada@example.com");
    assert_eq!(entra.connection_count(), 0);
    assert!(gateway.stop_and_log().contains("listening on http"));
}
