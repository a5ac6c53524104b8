//! Label keys and values on objects that FerroLB writes.

/// On ServiceL2Status and ServiceBGPStatus: the node that announces.
pub const NODE: &str = "metallb.io/node";
/// On ServiceL2Status and ServiceBGPStatus: the name of the Service.
pub const SERVICE_NAME: &str = "metallb.io/service-name";
/// On ServiceL2Status and ServiceBGPStatus: the namespace of the Service.
pub const SERVICE_NAMESPACE: &str = "metallb.io/service-namespace";
/// On ConfigurationState: which component reports; [`CONTROLLER`] or [`SPEAKER`].
pub const COMPONENT_TYPE: &str = "metallb.io/component-type";
/// On the ConfigurationState of a speaker: its node.
pub const NODE_NAME: &str = "metallb.io/node-name";
/// Value of [`COMPONENT_TYPE`] for the allocating side; MetalLB's word, kept for those who select by it.
pub const CONTROLLER: &str = "controller";
/// Value of [`COMPONENT_TYPE`] for a speaker.
pub const SPEAKER: &str = "speaker";

/// On every object that belongs to the installation: the application.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// On every object that belongs to the installation: `operator`, `webhook` or `speaker`.
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";
/// Value of [`APP_NAME`].
pub const FERROLB: &str = "ferrolb";

/// On a Node: its presence keeps load balancer traffic away from the node (Kubernetes' own label).
pub const EXCLUDE_FROM_EXTERNAL_LOAD_BALANCERS: &str =
    "node.kubernetes.io/exclude-from-external-load-balancers";
