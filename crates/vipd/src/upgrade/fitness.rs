//! Whether a process that is to take over could do what the old one does.

use std::collections::BTreeSet;

use tokio::sync::watch;
use vrrp::StateName;

use super::State;

/// Virtual routers that an advert path cannot run, and why.
pub(crate) type Unfit = Vec<(String, String)>;

/// The virtual routers that are master or backup there.
pub(crate) fn running(state: &State) -> BTreeSet<String> {
    let routers = state.routers.iter();
    let running = routers.filter(|(_, router)| match router.state {
        StateName::Master | StateName::Backup => true,
        StateName::Fault | StateName::Initialize => false,
    });
    running.map(|(name, _)| name.clone()).collect()
}

/// Waits until the advert path has opened its sockets, and says whether it can run those here, too.
pub(crate) async fn judge(
    mut unfit: watch::Receiver<Option<Unfit>>,
    running: &BTreeSet<String>,
) -> Result<(), String> {
    let Ok(unfit) = unfit.wait_for(Option::is_some).await else {
        return Err("its advert path has ended".to_owned());
    };
    let mut unfit = unfit.iter().flatten();
    match unfit.find(|(router, _)| running.contains(router)) {
        Some((router, why)) => Err(format!("it could not run virtual router {router}: {why}")),
        None => Ok(()),
    }
}
