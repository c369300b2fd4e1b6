//! The published description of the topic is that of the code, and whole.

use std::fs;

use events::log::asyncapi;
use serde_json::Value;
use testing::environment;

#[test]
fn the_generated_description_of_the_topic_is_published_as_it_is() {
    let path = environment::root().join("schemas/asyncapi.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&asyncapi()).unwrap());
    if environment::optional("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        published, text,
        "schemas/asyncapi.json is out of date: run `make docs`"
    );
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(
                fields
                    .get("$ref")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_in_the_description_of_the_topic_leads_somewhere() {
    let (document, mut found) = (asyncapi(), vec![]);
    references(&document, &mut found);
    assert!(found.len() > 60, "only {} references", found.len());
    for reference in found {
        let (file, pointer) = reference.split_once('#').unwrap_or((&reference, ""));
        let there = if file.is_empty() {
            document.pointer(pointer).is_some()
        } else {
            let path = environment::root().join("schemas").join(file);
            let text = fs::read_to_string(path).unwrap_or_default();
            let schema: Option<Value> = serde_json::from_str(&text).ok();
            schema.is_some_and(|schema| schema.pointer(pointer).is_some())
        };
        assert!(there, "{reference} leads nowhere");
    }
}
