//! An object as it comes from the API server, whatever its kind.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;

/// The text of an object, with what a watch must know of it. Who knows the kind parses it; so there is one watch in a program
/// and not one for each kind, which would be a tenth of a speaker.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Namespace, name, version, uid and generation; the rest is left out.
    pub(crate) metadata: ObjectMeta,
    /// The whole object.
    pub(crate) text: Box<RawValue>,
}

impl Text {
    /// `metadata.resourceVersion`; empty if there is none.
    pub(crate) fn version(&self) -> &str {
        self.metadata
            .resource_version
            .as_deref()
            .unwrap_or_default()
    }
}

#[derive(serde::Deserialize)]
struct Head {
    #[serde(default)]
    metadata: HeadMetadata,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HeadMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let head: Head = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let metadata = ObjectMeta {
            name: head.metadata.name,
            namespace: head.metadata.namespace,
            uid: head.metadata.uid,
            resource_version: head.metadata.resource_version,
            generation: head.metadata.generation,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, text })
    }
}

impl Resource for Text {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The parser's words without line and column: nobody else has seen the text that they count in.
pub(crate) fn without_position(error: serde_json::Error) -> String {
    let position = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use kube::core::WatchEvent;
    use kube::core::object::ObjectList;

    use super::*;

    const OBJECT: &str = r#"{"kind":"Pod","metadata":{"name":"a","namespace":"b","uid":"c","resourceVersion":"7","generation":3,"labels":{"x":"y"}},"spec":{"n":1.0}}"#;

    fn check(text: &Text) {
        assert_eq!(text.text.get(), OBJECT, "to the letter");
        assert_eq!(text.version(), "7");
        let ObjectMeta {
            name,
            namespace,
            uid,
            generation,
            labels,
            ..
        } = &text.metadata;
        assert_eq!(
            (
                name.as_deref(),
                namespace.as_deref(),
                uid.as_deref(),
                generation,
                labels
            ),
            (Some("a"), Some("b"), Some("c"), &Some(3), &None)
        );
    }

    #[test]
    fn an_object_of_a_watch_and_of_a_list_is_kept_as_it_came() {
        let event = format!(r#"{{"type":"ADDED","object":{OBJECT}}}"#);
        match serde_json::from_str(&event).unwrap() {
            WatchEvent::Added(text) => check(&text),
            event => panic!("{event:?}"),
        }
        let list =
            format!(r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{}},"items":[{OBJECT}]}}"#);
        let list: ObjectList<Text> = serde_json::from_str(&list).unwrap();
        assert_eq!(list.items.len(), 1);
        check(&list.items[0]);
    }

    #[test]
    fn a_complaint_does_not_say_where() {
        let error = serde_json::from_str::<u8>(r#""a""#).unwrap_err();
        assert_eq!(
            without_position(error),
            r#"invalid type: string "a", expected u8"#
        );
    }
}
