//! Every object of a kind at one moment, read with quorum.

use std::fmt::Debug;

use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use crate::watch::chain;

/// Reads all objects of a kind, in every namespace, never older than the last write that anyone completed. Each is
/// reduced at once, and a page of 500 is the most that is held whole.
///
/// # Errors
/// The API server's words, or that nobody answered.
pub async fn list<K, T>(client: &Client, project: impl Fn(K) -> Option<T>) -> Result<Vec<T>, String>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let mut found = Vec::new();
    let mut params = ListParams::default().limit(500);
    loop {
        let page = api.list(&params).await.map_err(|error| chain(&error))?;
        found.extend(page.items.into_iter().filter_map(&project));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}
