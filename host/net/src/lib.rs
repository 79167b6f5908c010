//! Calls to agents over HTTP: which addresses agents may have, and a bounded client for them.
//!
//! An agent's URL comes from outside. It must not lead the platform to itself, to a cloud's metadata
//! service or into a private network (SSRF). [`AgentAddresses`] checks a URL when an agent reports it, and
//! [`AgentClient`] checks every address again when it opens a connection. This crate knows no table and
//! no workspace.

#![forbid(unsafe_code)]

mod addresses;
mod agent_url;
mod client;
mod connector;
mod limits;
mod patience;
mod policy;
mod socket;
mod special;
mod tls;

pub use addresses::AgentAddresses;
pub use agent_url::{UrlError, has_user_info, is_absolute_url};
pub use client::{AgentBody, AgentClient, AgentRequest, AgentResponse, BodyError, CallError};
pub use patience::{CallLimits, Expired, IdleClock};
pub use policy::AddressPolicy;
pub use tls::{AgentAuthorities, AuthoritiesError, SystemCertificatesError, system_certificates};
