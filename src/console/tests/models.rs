//! The models and the playground.

use serde_json::json;

use super::{House, Visitor};
use crate::api::tests::model;
use crate::console::{Console, Fields, question};

#[test]
fn everyone_sees_their_own_models_and_what_they_cost() {
    let (house, console) = (House::furnished(), Console::default());
    let mut manifest = model("dear");
    manifest["cost"] = json!({"input_cost_per_token": 0.0000025, "output_cost_per_token": 0.00001});
    let (status, answer) =
        house.ask(&super::LOCAL, "POST", "/provider-accounts/main/models", json!({"manifest": manifest}));
    let priced = status == 200;
    let page = Visitor::signed_in(&house, &console, "access@x.io").get("/models");
    assert!(page.text.contains("main/gpt") && !page.text.contains("other/"), "{}", page.text);
    assert!(page.text.contains("unknown"), "a price that nobody knows is not zero");
    assert!(!priced || page.text.contains(">$2.50<"), "{answer}: {}", page.text);
    assert!(page.text.contains("/playground?model=main%2Fgpt"));
    let page = Visitor::signed_in(&house, &console, "access@x.io").get("/models?q=SMALL&sort=-input");
    assert!(page.text.contains("org/small") && !page.text.contains("main/gpt"), "{}", page.text);
    let page = Visitor::signed_in(&house, &console, "plain@x.io").get("/models");
    assert!(page.text.contains("Ask an administrator"));
    assert_eq!(Visitor::signed_in(&house, &console, "plain@x.io").get("/playground").status, 200);
}

#[test]
fn a_question_is_json_whatever_is_asked() {
    let hostile = "\"}], \"model\": \"other/x\u{0}\n</script>";
    let form = Fields::of(&[("model", "main/gpt"), ("message", hostile)]);
    let read: serde_json::Value = serde_json::from_str(&question(&form)).unwrap();
    assert_eq!(read, json!({"model": "main/gpt", "messages": [{"role": "user", "content": hostile}]}));
    let page = {
        let (house, console) = (House::furnished(), Console::default());
        Visitor::signed_in(&house, &console, "access@x.io").get("/playground?model=%22%3E%3Cscript%3E")
    };
    assert!(!page.text.contains("\"><script>"), "{}", page.text);
}
