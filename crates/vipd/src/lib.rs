//! The vipd daemon and its client, vipctl.
//!
//! `ARCHITECTURE.md` at the top of the repository says how the parts fit together and where to
//! change what.

pub mod cli;
pub mod config;
pub mod control;
pub mod counters;
pub mod daemon;
pub mod debug;
pub mod desired;
pub mod director_loop;
pub mod director_status;
pub mod doctor;
pub mod events;
pub mod guard;
pub mod holdings;
pub mod instance;
pub mod ipvs_view;
pub mod ipvsadm;
pub mod ipvsctl;
pub mod listeners;
pub mod log;
pub mod maintenance;
pub mod metrics;
pub mod net;
pub mod notify;
pub mod overrides;
pub mod plan;
pub mod privileges;
pub mod realserver;
pub mod reconcile;
pub mod release;
pub mod reloadctl;
mod shell;
pub mod status;
mod systemd;
pub mod top;
pub mod track;
pub mod trial;
pub mod upgrade;
pub mod vrrp_loop;
