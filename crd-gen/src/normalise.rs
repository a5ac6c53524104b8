//! What the derived schemas are changed into, so that they are MetalLB's.
//!
//! - An `Option` is a field that may be absent. The derived schema also lets it be null, which MetalLB's does not.
//! - Unsigned formats are not among the formats that the API server knows, and it warns about them.
//! - A `spec` that requires nothing may be absent, as in an advertisement of everything.
//! - A doc comment is wrapped for the source; a description is one line.

use serde_json::{Map, Value};

/// Changes an `openAPIV3Schema` as a whole.
pub fn schema(root: &mut Value) {
    every_object(root, &mut |schema| {
        schema.remove("nullable");
        schema.remove("title");
        if schema
            .get("format")
            .and_then(Value::as_str)
            .is_some_and(|format| format.starts_with("uint"))
        {
            schema.remove("format");
        }
        if let Some(Value::String(description)) = schema.get_mut("description") {
            *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
        }
    });
    let requires_nothing = root
        .pointer("/properties/spec")
        .is_some_and(|spec| spec.get("required").is_none());
    if let Some(root) = root.as_object_mut() {
        if requires_nothing && let Some(Value::Array(required)) = root.get_mut("required") {
            required.retain(|field| field != "spec");
        }
        if root
            .get("required")
            .and_then(Value::as_array)
            .is_some_and(Vec::is_empty)
        {
            root.remove("required");
        }
    }
}

/// Visits every schema below and including this one. A map under `properties` holds schemas by field name and is not
/// itself one, so a field called `format` is left alone.
fn every_object(value: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(schema) = value else { return };
    visit(schema);
    for (keyword, below) in schema {
        match (keyword.as_str(), below) {
            ("properties", Value::Object(fields)) => {
                for field in fields.values_mut() {
                    every_object(field, visit);
                }
            }
            ("items" | "additionalProperties", below) => every_object(below, visit),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_derived_schema_becomes_metallbs() {
        let mut derived = json!({
            "title": "Pool", "type": "object", "required": ["spec"],
            "properties": { "spec": { "type": "object", "properties": {
                "nullable": { "type": "string", "nullable": true, "description": "One\nline." },
                "port": { "type": "integer", "format": "uint16" },
                "list": { "type": "array", "items": { "type": "integer", "format": "int64", "nullable": true } }
            } } }
        });
        schema(&mut derived);
        assert_eq!(
            derived,
            json!({
                "type": "object",
                "properties": { "spec": { "type": "object", "properties": {
                    "nullable": { "type": "string", "description": "One line." },
                    "port": { "type": "integer" },
                    "list": { "type": "array", "items": { "type": "integer", "format": "int64" } }
                } } }
            })
        );
    }

    #[test]
    fn a_spec_that_requires_a_field_is_itself_required() {
        let mut derived = json!({
            "type": "object", "required": ["spec"],
            "properties": { "spec": { "type": "object", "required": ["addresses"], "properties": {} } }
        });
        schema(&mut derived);
        assert_eq!(derived["required"], json!(["spec"]));
    }
}
