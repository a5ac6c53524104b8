//! Handles on a running site: the API server through a plain client, kubectl as users type it, and waiting for what
//! must come true.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::runtime::{Handle, Runtime};

use crate::run::Run;
use crate::{interrupt, site};

/// The namespace that FerroLB is installed in.
pub const SYSTEM: &str = "metallb-system";

/// A site that is up.
pub struct Site {
    pub run: Run,
    pub client: kube::Client,
    runtime: Runtime,
}

impl Site {
    /// Connects as admin. The calling thread must be in the control plane's namespace already.
    pub fn connect(run: Run) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let path = run.directory.join("credentials/admin.kubeconfig");
        // Not kube's own client with its read timeout: that one also ends connections that are idle for as long, and a
        // request that begins at that moment fails with "connection error: timed out".
        let client = runtime.block_on(ferrolb_cluster::connect(Some(&path), 32))?;
        Ok(Self {
            run,
            client,
            runtime,
        })
    }

    pub fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }

    fn request(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<Option<Value>> {
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(body)?
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, kind)
            .body(bytes)?;
        match self.runtime.block_on(self.client.request::<Value>(request)) {
            Ok(value) => Ok(Some(value)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{method} {path}")),
        }
    }

    /// Reads an object or a list by its path at the API server.
    pub fn get(&self, path: &str) -> Result<Option<Value>> {
        self.request("GET", path, "application/json", &Value::Null)
    }

    pub fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.request("POST", path, "application/json", object)?
            .with_context(|| format!("there is no {path}"))
    }

    /// The same as part of a trace, given as W3C `traceparent`.
    pub fn create_traced(&self, path: &str, object: &Value, traceparent: &str) -> Result<Value> {
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header("traceparent", traceparent)
            .body(serde_json::to_vec(object)?)?;
        let created = self.runtime.block_on(self.client.request::<Value>(request));
        created.with_context(|| format!("POST {path}"))
    }

    /// Changes an object by a JSON merge patch (RFC 7386).
    pub fn patch(&self, path: &str, patch: &Value) -> Result<Value> {
        self.request("PATCH", path, "application/merge-patch+json", patch)?
            .with_context(|| format!("there is no {path}"))
    }

    /// Deletes an object, or every object of a list.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.request(
            "DELETE",
            path,
            "application/json",
            &json!({"propagationPolicy": "Background"}),
        )
        .map(drop)
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        site::kubectl(&self.run, arguments)
    }

    /// `kubectl apply` of this text; returns what kubectl printed, or fails with its complaint.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        site::kubectl_with_input(&self.run, &["apply", "-f", "-"], manifest)
    }

    /// Whether kubectl succeeds with this input, and everything that it prints.
    pub fn kubectl_prints(&self, arguments: &[&str], input: &str) -> Result<(bool, String)> {
        site::kubectl_prints(&self.run, arguments, input)
    }

    /// Asks until there is an answer. An error of the question counts as no answer yet.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut question: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            interrupt::check()?;
            let answer = question();
            match answer {
                Ok(Some(value)) => return Ok(value),
                Ok(None) if Instant::now() > deadline => {
                    bail!("{what}: not within {} s", limit.as_secs())
                }
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("{what}: not within {} s", limit.as_secs())));
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Waits until a condition holds.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        self.wait(what, limit, || Ok(condition()?.then_some(())))
    }

    /// The addresses in the status of a Service, once there are this many.
    pub fn addresses(&self, service: &str, count: usize) -> Result<Vec<String>> {
        self.wait(
            &format!("Service {service} gets {count} address(es)"),
            Duration::from_secs(20),
            || {
                let found = self.addresses_now(service)?;
                Ok((found.len() == count).then_some(found))
            },
        )
    }

    /// The addresses in the status of a Service of the namespace `default`, as they are.
    pub fn addresses_now(&self, service: &str) -> Result<Vec<String>> {
        let object = self.get(&service_path(service))?.unwrap_or_default();
        let ingress = object["status"]["loadBalancer"]["ingress"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(ingress
            .iter()
            .filter_map(|i| i["ip"].as_str().map(str::to_owned))
            .collect())
    }

    /// Whether every pod that this workload asks for runs its newest version and is ready.
    pub fn is_rolled_out(&self, kind: &str, name: &str) -> Result<bool> {
        let Some(object) = self.get(&format!("/apis/apps/v1/namespaces/{SYSTEM}/{kind}/{name}"))?
        else {
            return Ok(false);
        };
        let status = &object["status"];
        let observed = status["observedGeneration"] == object["metadata"]["generation"];
        let (wanted, updated, ready, all) = if kind == "daemonsets" {
            (
                &status["desiredNumberScheduled"],
                &status["updatedNumberScheduled"],
                &status["numberReady"],
                &status["currentNumberScheduled"],
            )
        } else {
            (
                &object["spec"]["replicas"],
                &status["updatedReplicas"],
                &status["readyReplicas"],
                &status["replicas"],
            )
        };
        let wanted_number = wanted.as_u64().unwrap_or_default();
        let counted = [updated, ready, all]
            .iter()
            .all(|v| v.as_u64().unwrap_or_default() == wanted_number);
        // The controller may not have noticed yet that a pod is gone: after an outage of the API server its watches, like the
        // kubelets', wait for up to half a minute before they try again.
        Ok(observed
            && wanted_number > 0
            && counted
            && self.ready_pods(&object["spec"]["selector"]["matchLabels"])? == wanted_number)
    }

    /// How many pods with these labels are ready and not about to go.
    fn ready_pods(&self, labels: &Value) -> Result<u64> {
        let labels: Vec<_> = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}%3D{}", value.as_str().unwrap_or_default()))
            .collect();
        let list = self.get(&format!(
            "/api/v1/namespaces/{SYSTEM}/pods?labelSelector={}",
            labels.join(",")
        ))?;
        let stays = |pod: &&Value| {
            pod["metadata"]["deletionTimestamp"].is_null()
                && condition(pod, "Ready").is_some_and(|c| c["status"] == "True")
        };
        let list = list.unwrap_or_default();
        let pods = list["items"].as_array().into_iter().flatten();
        Ok(u64::try_from(pods.filter(stays).count())?)
    }

    /// Whether this Deployment is to have pods at all.
    pub fn wants_pods(&self, name: &str) -> Result<bool> {
        let path = format!("/apis/apps/v1/namespaces/{SYSTEM}/deployments/{name}");
        let object = self.get(&path)?.unwrap_or_default();
        Ok(object["spec"]["replicas"].as_u64() != Some(0))
    }

    /// Events about an object, newest last, as `Reason: message`.
    pub fn events(&self, namespace: &str, kind: &str, name: &str) -> Result<Vec<String>> {
        let path = format!(
            "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.kind%3D{kind},involvedObject.name%3D{name}"
        );
        let list = self.get(&path)?.unwrap_or_default();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items
            .iter()
            .map(|e| {
                format!(
                    "{}: {}",
                    e["reason"].as_str().unwrap_or_default(),
                    e["message"].as_str().unwrap_or_default()
                )
            })
            .collect())
    }
}

/// Where a Service of the namespace `default` is at the API server.
pub fn service_path(name: &str) -> String {
    format!("/api/v1/namespaces/default/services/{name}")
}

/// A condition of an object, by its type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == kind)
}
