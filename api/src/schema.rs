//! Schemas of the Kubernetes types that our kinds contain.
//!
//! The schemas that come with `k8s-openapi` lack the merge rules (`x-kubernetes-list-type` and the like), and without them
//! two writers of one list overwrite each other.

use schemars::{Schema, SchemaGenerator, json_schema};

use crate::cel::limits::{EXPRESSIONS, SELECTORS};
use crate::cel::selectors;

/// A list of label selectors, any of which may match.
pub(crate) fn label_selectors(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": SELECTORS, "items": label_selector(generator) })
}

/// Kubernetes' label selector; server-side apply treats it as one value.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "Selects objects by their labels. Every condition must hold; an empty selector matches everything.",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "description": "Labels that must be there with exactly this value.",
                "type": "object",
                "additionalProperties": { "type": "string" }
            },
            "matchExpressions": {
                "description": "Conditions on single labels.",
                "type": "array",
                "x-kubernetes-list-type": "atomic",
                "maxItems": EXPRESSIONS,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "x-kubernetes-validations": selectors::expression(),
                    "properties": {
                        "key": { "description": "The label's key.", "type": "string" },
                        "operator": {
                            "description": "In, NotIn, Exists or DoesNotExist.",
                            "type": "string"
                        },
                        "values": {
                            "description": "The values for In and NotIn; empty for the others.",
                            "type": "array",
                            "x-kubernetes-list-type": "atomic",
                            "items": { "type": "string" }
                        }
                    }
                }
            }
        }
    })
}

/// Kubernetes' conditions: a map keyed by `type`, so that each writer owns its own.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "description": "What FerroLB found out about this object.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "What the condition is about, such as Accepted.",
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
                },
                "status": {
                    "description": "Whether it holds.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"]
                },
                "reason": {
                    "description": "Why, as one CamelCase word.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
                },
                "message": {
                    "description": "Why, as a sentence that says what to do.",
                    "type": "string",
                    "maxLength": 32768
                },
                "lastTransitionTime": {
                    "description": "When the status last changed.",
                    "type": "string",
                    "format": "date-time"
                },
                "observedGeneration": {
                    "description": "The metadata.generation that this is about.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0
                }
            }
        }
    })
}

/// Kubernetes' time.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// Kubernetes' reference to a Secret.
pub(crate) fn secret_reference(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "name": { "description": "The Secret's name.", "type": "string" },
            "namespace": { "description": "Ignored: the Secret is looked up in FerroLB's own namespace.", "type": "string" }
        }
    })
}
