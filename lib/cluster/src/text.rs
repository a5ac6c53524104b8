//! An object as it comes from the API server, whatever its kind.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;

/// The text of an object, with what a watch must know of it. Who knows the kind parses it; so there is one watch in a program
/// and not one for each kind.
///
/// It is read from the text of an event, whose `type` must come before its `object`: as every API server writes it.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Namespace, name, version, uid and generation; the rest is left out.
    pub(crate) metadata: ObjectMeta,
    /// The whole object but for `metadata.managedFields`. Nobody reads those, they are often half of an object, and whoever may
    /// write one can put times there that do not parse.
    pub(crate) text: Box<str>,
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
struct Head<'a> {
    #[serde(borrow, default)]
    metadata: HeadMetadata<'a>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HeadMetadata<'a> {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    #[serde(borrow)]
    managed_fields: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let Head { metadata: head } = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let metadata = ObjectMeta {
            name: head.name,
            namespace: head.namespace,
            uid: head.uid,
            resource_version: head.resource_version,
            generation: head.generation,
            ..ObjectMeta::default()
        };
        let managed = head.managed_fields.map(RawValue::get);
        let text = managed
            .and_then(|managed| without(text.get(), managed))
            .map_or_else(|| text.get().into(), String::into_boxed_str);
        Ok(Self { metadata, text })
    }
}

/// The text with an empty list where `part` of it is.
fn without(text: &str, part: &str) -> Option<String> {
    let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let (before, after) = (text.get(..start)?, text.get(start + part.len()..)?);
    Some([before, "[]", after].concat())
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

    const BEFORE: &str = r#"{"kind":"Pod","metadata":{"name":"a","namespace":"b","uid":"c","resourceVersion":"7","generation":3,"managedFields":"#;
    const AFTER: &str = r#","labels":{"x":"y"}},"spec":{"n":1.0}}"#;
    /// No time that is known here.
    const MANAGED: &str = r#"[{"time":"9999-12-31T23:59:59Z","fieldsV1":{"f:spec":{}}}]"#;

    fn check(text: &Text) {
        assert_eq!(*text.text, [BEFORE, "[]", AFTER].concat());
        assert_eq!(text.version(), "7");
        let metadata = &text.metadata;
        assert_eq!(
            (metadata.name.as_deref(), metadata.namespace.as_deref()),
            (Some("a"), Some("b"))
        );
        assert_eq!(
            (metadata.uid.as_deref(), metadata.generation),
            (Some("c"), Some(3))
        );
    }

    #[test]
    fn an_object_of_a_watch_and_of_a_list_is_kept_as_it_came_but_for_its_managers() {
        let object = [BEFORE, MANAGED, AFTER].concat();
        let event = format!(r#"{{"type":"ADDED","object":{object}}}"#);
        match serde_json::from_str(&event).unwrap() {
            WatchEvent::Added(text) => check(&text),
            event => panic!("{event:?}"),
        }
        let list =
            format!(r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{}},"items":[{object}]}}"#);
        let list: ObjectList<Text> = serde_json::from_str(&list).unwrap();
        assert_eq!(list.items.len(), 1);
        check(&list.items[0]);
    }

    #[test]
    fn an_object_without_managers_is_kept_to_the_letter() {
        let object = r#"{"metadata" : {"name":"a"},"spec":[1, 2]}"#;
        let text: Text = serde_json::from_str(object).unwrap();
        assert_eq!((&*text.text, text.version()), (object, ""));
        let null = r#"{"metadata":{"managedFields":null}}"#;
        let text: Text = serde_json::from_str(null).unwrap();
        assert_eq!(&*text.text, null);
    }

    #[test]
    fn the_type_of_an_event_comes_first() {
        let event = r#"{"object":{"metadata":{"name":"a"}},"type":"ADDED"}"#;
        assert!(serde_json::from_str::<WatchEvent<Text>>(event).is_err());
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
