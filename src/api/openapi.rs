//! The description of this API for machines: OpenAPI 3.1, written by hand beside the handlers and served as it
//! stands. The tests here hold it to the table of routes; the fuzzer of `tests/run` holds the answers to it.

/// The document.
pub const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::ROUTES;
    use super::super::tests::House;
    use super::DOCUMENT;

    const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    /// Every operation as (`METHOD PATH`, operation).
    fn operations(document: &Value) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(METHODS.contains(&method.as_str()), "{path}: {method} is no method");
                found.push((format!("{} {path}", method.to_uppercase()), operation));
            }
        }
        found
    }

    #[test]
    fn it_has_every_route_and_no_other() {
        let document = document();
        let described: BTreeSet<String> = operations(&document).into_iter().map(|(name, _)| name).collect();
        let routes: BTreeSet<String> =
            ROUTES.iter().map(|(method, path)| format!("{method} {path}")).collect();
        let missing: Vec<_> = routes.difference(&described).collect();
        let unknown: Vec<_> = described.difference(&routes).collect();
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "src/api/openapi.json lacks {missing:#?} and has {unknown:#?} that are no routes"
        );
    }

    #[test]
    fn each_operation_has_a_name_of_its_own_its_parameters_and_its_refusals() {
        let document = document();
        let mut names = BTreeSet::new();
        for (name, operation) in operations(&document) {
            let id = operation["operationId"].as_str().unwrap();
            assert!(names.insert(id.to_owned()), "{name}: '{id}' is there twice");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("200") && responses.contains_key("405"), "{name}");
            // Whoever needs a token may come without one.
            assert_eq!(responses.contains_key("401"), operation.get("security").is_none(), "{name}");
            let parameters: BTreeSet<&str> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|parameter| match parameter["$ref"].as_str() {
                    Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
                    None => parameter,
                })
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let in_path: BTreeSet<&str> = name
                .split(['{', '}'])
                .enumerate()
                .filter(|(at, _)| at % 2 == 1)
                .map(|(_, text)| text)
                .collect();
            assert_eq!(parameters, in_path, "{name}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_component_is_used() {
        fn collect(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref") {
                        found.insert(reference.clone());
                    }
                    map.values().for_each(|value| collect(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut used = BTreeSet::new();
        collect(&document, &mut used);
        for reference in &used {
            assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
        }
        for kind in ["parameters", "responses", "schemas"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                let reference = format!("#/components/{kind}/{name}");
                assert!(used.contains(&reference), "{reference} is not used");
            }
        }
    }

    #[test]
    fn anyone_gets_it_as_it_stands() {
        let house = House::empty();
        let response = house.call(None, "GET", "/openapi.json", b"");
        assert_eq!(response.status, 200);
        assert!(response.body == DOCUMENT);
    }
}
