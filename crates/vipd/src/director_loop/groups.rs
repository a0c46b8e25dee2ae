//! The state of a sync group, for those who are told of groups: what all its members are, or in fault as
//! soon as one is.

use vrrp::StateName;

use super::Director;
use crate::events::{Details, Fields, Kind};

impl Director {
    /// Says so if the group of that virtual router is in another state than before.
    pub(super) fn tell_group(&mut self, router: &str) {
        let has = |members: &[String]| members.iter().any(|member| member == router);
        let mut groups = self.config.sync_groups.iter();
        let Some(group) = groups.find(|group| has(&group.members)) else {
            return;
        };
        let members = group.members.iter();
        let states = members.map(|member| Some(self.routers.get(member)?.report.state));
        let Some(states) = states.collect::<Option<Vec<StateName>>>() else {
            return;
        };
        let Some(state) = of_all(&states) else {
            return;
        };
        let name = group.name.clone();
        let before = self.groups.insert(name.clone(), state);
        if before == Some(state) || (before.is_none() && state == StateName::Initialize) {
            return;
        }
        let from = before.unwrap_or(StateName::Initialize).to_string();
        let details = Details {
            cause: None,
            // As keepalived has it: a group has no priority.
            fields: Fields::of([("priority", 0.into()), ("from", from.clone().into())]),
        };
        let members = group.members.join(", ");
        let message = format!("{state}, was {from}: {members}");
        let kind = match state {
            StateName::Initialize => Kind::SyncGroupInitialize,
            StateName::Backup => Kind::SyncGroupBackup,
            StateName::Master => Kind::SyncGroupMaster,
            StateName::Fault => Kind::SyncGroupFault,
        };
        self.events.record_with(kind, name, message, details);
    }
}

/// `None`: they are on their way.
fn of_all(states: &[StateName]) -> Option<StateName> {
    let first = *states.first()?;
    if states.contains(&StateName::Fault) {
        return Some(StateName::Fault);
    }
    let same = states.iter().all(|state| *state == first);
    same.then_some(first)
}

#[cfg(test)]
mod tests {
    use vrrp::StateName::{Backup, Fault, Master};

    use super::of_all;

    #[test]
    fn a_group_is_what_all_its_members_are_and_in_fault_with_the_first() {
        assert_eq!(of_all(&[Master, Master]), Some(Master));
        assert_eq!(of_all(&[Master, Backup]), None);
        assert_eq!(of_all(&[Backup, Fault]), Some(Fault));
        assert_eq!(of_all(&[]), None);
    }
}
