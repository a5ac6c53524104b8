//! Writing decisions down: each write names the version that it was decided on and is bounded in time.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use ferrolb_api::ObjectKey;

use crate::watch::chain;

/// What became of a write, in the words that decide what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Written; the object's new resourceVersion.
    Done(String),
    /// The object changed since it was decided on: wait for the watch to show it and decide again.
    Conflict,
    /// The object is gone: drop the decision.
    Gone,
    /// The API server refuses the content; the same again will be refused again.
    Invalid(String),
    /// Nobody answered, too slowly, or we are not allowed to: try again later.
    Unavailable(String),
}

impl Outcome {
    /// Whether it is written.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// Sorts the API server's answer.
    pub fn of_error(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                409 => Self::Conflict,
                404 | 410 => Self::Gone,
                400 | 413 | 415 | 422 => Self::Invalid(status.message.clone()),
                _ => Self::Unavailable(status.message.clone()),
            },
            other => Self::Unavailable(chain(other)),
        }
    }
}

/// Writes objects. Cheap to clone; any number of writes may run at once.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    within: Duration,
}

impl Writer {
    /// Each write ends within 5 seconds, one way or the other.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            within: Duration::from_secs(5),
        }
    }

    /// Bounds each write otherwise.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Merges `change` into the `status` subresource of an object, provided that it still has `resource_version`.
    ///
    /// `change` is the object's outline (`{"status": ...}`); annotations under `metadata` are taken along, because the
    /// status subresource of a Service lets them through. Merge patch and not server-side apply: an earlier MetalLB
    /// co-owns `status.loadBalancer.ingress`, and a co-owned list entry cannot be removed by apply.
    pub async fn patch_status<K>(
        &self,
        key: &ObjectKey,
        resource_version: &str,
        change: Value,
    ) -> Outcome
    where
        K: Resource<DynamicType = ()>,
    {
        self.merge::<K>(
            key,
            Some("status"),
            Some(resource_version),
            change,
            Patch::Merge,
        )
        .await
    }

    /// Merges `change` into an object; with a `resource_version` only if it still has that one.
    pub async fn patch<K>(
        &self,
        key: &ObjectKey,
        resource_version: Option<&str>,
        change: Value,
    ) -> Outcome
    where
        K: Resource<DynamicType = ()>,
    {
        self.merge::<K>(key, None, resource_version, change, Patch::Merge)
            .await
    }

    /// Merges `change` into an object whose lists are merged by key (strategic merge patch), if it still has that
    /// version: one field of one entry changes, and the list's other entries and fields stay. Built-in kinds only.
    pub async fn patch_strategic<K>(
        &self,
        key: &ObjectKey,
        resource_version: &str,
        change: Value,
    ) -> Outcome
    where
        K: Resource<DynamicType = ()>,
    {
        self.merge::<K>(key, None, Some(resource_version), change, Patch::Strategic)
            .await
    }

    async fn merge<K>(
        &self,
        key: &ObjectKey,
        subresource: Option<&str>,
        resource_version: Option<&str>,
        mut change: Value,
        kind: fn(Value) -> Patch<Value>,
    ) -> Outcome
    where
        K: Resource<DynamicType = ()>,
    {
        if let (Some(version), Some(change)) = (resource_version, change.as_object_mut()) {
            let metadata = change.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert(
                    "resourceVersion".to_owned(),
                    Value::String(version.to_owned()),
                );
            }
        }
        let path = K::url_path(
            &(),
            (!key.namespace().is_empty()).then_some(key.namespace()),
        );
        let (params, patch) = (PatchParams::default(), kind(change));
        let request = Request::new(path);
        let request = match subresource {
            Some(subresource) => {
                request.patch_subresource(subresource, key.name(), &params, &patch)
            }
            None => request.patch(key.name(), &params, &patch),
        };
        let mut request = match request {
            Ok(request) => request,
            Err(error) => return Outcome::Invalid(chain(&error)),
        };
        // The whole object is not wanted back: with thousands of writes that is most of the traffic.
        request
            .headers_mut()
            .insert(http::header::ACCEPT, METADATA_ONLY);
        self.bounded(async {
            self.client
                .request::<Written>(request)
                .await
                .map(|written| written.metadata.resource_version)
        })
        .await
    }

    /// Creates an object. [`Outcome::Conflict`] when it exists.
    pub async fn create<K>(&self, namespace: &str, object: &K) -> Outcome
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.bounded(async {
            api.create(&PostParams::default(), object)
                .await
                .map(version)
        })
        .await
    }

    /// Deletes an object. [`Outcome::Gone`] when there is none.
    pub async fn delete<K>(&self, key: &ObjectKey) -> Outcome
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), key.namespace());
        self.bounded(async {
            api.delete(key.name(), &DeleteParams::default())
                .await
                .map(|_| String::new())
        })
        .await
    }

    /// Deletes the object that has this uid, and no other that was made under its name since: then it is
    /// [`Outcome::Conflict`]. [`Outcome::Gone`] when there is none.
    pub async fn delete_this<K>(&self, key: &ObjectKey, uid: &str) -> Outcome
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), key.namespace());
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        });
        self.bounded(async { api.delete(key.name(), &params).await.map(|_| String::new()) })
            .await
    }

    /// Reads one object, for what no watch of ours shows: an object of another that is in the way of a write.
    ///
    /// # Errors
    /// [`Outcome::Gone`] when there is none, [`Outcome::Unavailable`] when nobody answers.
    pub async fn read<K>(&self, key: &ObjectKey) -> Result<K, Outcome>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), key.namespace());
        self.answered(api.get(key.name())).await
    }

    async fn bounded(&self, write: impl Future<Output = kube::Result<String>>) -> Outcome {
        match self.answered(write).await {
            Ok(version) => Outcome::Done(version),
            Err(outcome) => outcome,
        }
    }

    async fn answered<T>(
        &self,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Outcome> {
        match tokio::time::timeout(self.within, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Outcome::of_error(&error)),
            Err(_) => Err(Outcome::Unavailable(format!(
                "the API server did not answer within {} ms",
                self.within.as_millis()
            ))),
        }
    }
}

const METADATA_ONLY: http::HeaderValue = http::HeaderValue::from_static(
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
);

fn version<K: Resource>(object: K) -> String {
    object.meta().resource_version.clone().unwrap_or_default()
}

#[derive(Deserialize)]
struct Written {
    metadata: WrittenMeta,
}

#[derive(Deserialize)]
struct WrittenMeta {
    #[serde(rename = "resourceVersion", default)]
    resource_version: String,
}
