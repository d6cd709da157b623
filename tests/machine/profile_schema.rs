//! The JSON schema for editors: equal to its file, to what the parser knows, and true of every shipped profile.

use lanrage::rules::check::check_text;
use lanrage::rules::schema::{self, TABLES};
use lanrage::rules::shipped;
use serde_json::Value;
use std::collections::BTreeSet;

#[test]
fn the_file_is_what_the_command_prints() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/profile.schema.json");
    let told = "run `lanrage games schema > docs/profile.schema.json`";
    assert!(std::fs::read_to_string(file).unwrap() == schema::text(), "{told}");
}

/// A profile with an unknown key in the table of this name.
fn stranger(table: &str) -> String {
    let head = "id = \"x\"\nname = \"X\"\nevidence = \"unverified\"\n";
    let rule = "[[rule]]\nkind = \"answer\"\nfrom_port = 5000\n";
    let odd = "qqqqqqqqqqqq = 1";
    match table {
        "profile" => format!("{head}{odd}\n"),
        "play" | "proxy" => format!("{head}[{table}]\n{odd}\n"),
        "rule" => format!("{head}{rule}{odd}\n"),
        "rewrite" => format!("{head}{rule}[[rule.rewrite]]\n{odd}\n"),
        "text" => format!("{head}{rule}map = {{ {odd} }}\n"),
        "number" => format!("{head}{rule}players = {{ {odd} }}\n"),
        other => format!("{head}{rule}{other} = {{ {odd} }}\n"),
    }
}

#[test]
fn the_parser_and_the_schema_know_the_same_keys() {
    for (table, keys) in TABLES {
        let wrong = check_text("x.toml", &stranger(table)).unwrap_err();
        let told = wrong.iter().find(|w| w.message.contains("`qqqqqqqqqqqq`")).expect(table);
        let help = told.help.as_deref().unwrap().strip_prefix("known here: ").unwrap();
        let parser: BTreeSet<&str> = help.split(", ").map(|word| word.trim_matches('`')).collect();
        let schema: BTreeSet<&str> = keys.iter().flat_map(|keys| keys.iter()).map(|key| key.name).collect();
        assert_eq!(parser, schema, "{table}");
    }
}

#[test]
fn every_shipped_profile_is_what_the_schema_says() {
    let schema: Value = serde_json::from_str(&schema::text()).unwrap();
    for (name, text) in shipped::FILES {
        let profile: Value = serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
        if let Err(why) = fits(&profile, &schema, &schema) {
            panic!("{name}: {why}");
        }
    }
}

#[test]
fn what_the_schema_forbids_is_found() {
    let schema: Value = serde_json::from_str(&schema::text()).unwrap();
    let good = "id = \"x\"\nname = \"X\"\nevidence = \"captured\"\n[[rule]]\nkind = \"query\"\nport = 5\n";
    let told = |text: &str| {
        let profile = serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
        fits(&profile, &schema, &schema)
    };
    assert_eq!(told(good), Ok(()));
    for bad in [
        good.replace("kind", "knid"),
        good.replace("query", "qeury"),
        good.replace("port = 5", "port = 70000"),
        good.replace("port = 5", "life = 1.5"),
        good.replace("name = \"X\"", "name = 5"),
        good.replace("name = \"X\"\n", ""),
    ] {
        assert!(told(&bad).is_err(), "{bad}");
    }
}

/// As much of JSON schema as ours uses; a word that is not known here fails the test.
fn fits(value: &Value, schema: &Value, root: &Value) -> Result<(), String> {
    for (word, what) in schema.as_object().unwrap() {
        let good = match word.as_str() {
            "$schema" | "title" | "description" | "definitions" => true,
            "type" => match what.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64() || value.is_u64(),
                "number" => value.is_number(),
                other => panic!("type {other}"),
            },
            "minimum" => value.as_f64() >= what.as_f64(),
            "maximum" => value.as_f64() <= what.as_f64(),
            "enum" => what.as_array().unwrap().contains(value),
            "anyOf" => what.as_array().unwrap().iter().any(|one| fits(value, one, root).is_ok()),
            "allOf" => {
                what.as_array().unwrap().iter().try_for_each(|one| fits(value, one, root))?;
                true
            }
            "$ref" => {
                let target =
                    root.pointer(what.as_str().unwrap().trim_start_matches('#')).expect("a definition");
                fits(value, target, root)?;
                true
            }
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|item| fits(item, what, root))?;
                true
            }
            "properties" => {
                for (key, item) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = what.get(key) {
                        fits(item, schema, root).map_err(|why| format!("{key}: {why}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema["properties"].as_object().unwrap();
                value.as_object().is_none_or(|have| have.keys().all(|key| known.contains_key(key)))
            }
            "required" => {
                let needed = what.as_array().unwrap();
                needed.iter().all(|key| value.get(key.as_str().unwrap()).is_some())
            }
            other => panic!("the test does not know `{other}`"),
        };
        if !good {
            return Err(format!("{word} {what} is not true of {value}"));
        }
    }
    Ok(())
}
