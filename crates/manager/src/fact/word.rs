//! The word of each kind of fact: what the journal calls it, and what people ask for it by.
//!
//! Invariant: the list and the words are the same, each once.

use super::FactKind;

impl FactKind {
    /// What [`FactKind::word`] can be.
    pub const WORDS: [&'static str; 60] = [
        "estate-founded",
        "resumed",
        "estate-declared",
        "catalog-seen",
        "service-placed",
        "launch-defined",
        "instance-declared",
        "instance-retired",
        "command-issued",
        "command-ended",
        "command-accepted",
        "quarantined",
        "instance-adopted",
        "release-asked",
        "settle-asked",
        "instance-died",
        "health-changed",
        "repair-began",
        "concluded",
        "remedy-chosen",
        "launch-rejected",
        "credentials-doubted",
        "repair-ended",
        "backed-off",
        "held",
        "callers-affected",
        "told",
        "restart-asked",
        "scale-asked",
        "down-asked",
        "delete-asked",
        "backup-asked",
        "loss-accepted",
        "need-verified",
        "service-sold",
        "guest-admitted",
        "sale-ended",
        "backup-brought",
        "restore-asked",
        "proof-asked",
        "backup-dropped",
        "traffic-measured",
        "traffic-counted",
        "budget-burns",
        "budget-calm",
        "move-began",
        "move-turned",
        "move-held",
        "move-returned",
        "move-ended",
        "instance-discarded",
        "drill-began",
        "drill-ended",
        "upgrades-sought",
        "upgrade",
        "service-credit",
        "override-began",
        "override-weighed",
        "override-ended",
        "self-upgrade",
    ];

    /// A short word for filters and tables: the `fact` tag of its JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::EstateFounded { .. } => "estate-founded",
            Self::Resumed { .. } => "resumed",
            Self::EstateDeclared { .. } => "estate-declared",
            Self::CatalogSeen { .. } => "catalog-seen",
            Self::ServicePlaced { .. } => "service-placed",
            Self::LaunchDefined { .. } => "launch-defined",
            Self::InstanceDeclared { .. } => "instance-declared",
            Self::InstanceRetired { .. } => "instance-retired",
            Self::CommandIssued { .. } => "command-issued",
            Self::CommandEnded { .. } => "command-ended",
            Self::CommandAccepted { .. } => "command-accepted",
            Self::Quarantined { .. } => "quarantined",
            Self::InstanceAdopted { .. } => "instance-adopted",
            Self::ReleaseAsked { .. } => "release-asked",
            Self::SettleAsked { .. } => "settle-asked",
            Self::InstanceDied { .. } => "instance-died",
            Self::HealthChanged { .. } => "health-changed",
            Self::RepairBegan { .. } => "repair-began",
            Self::Concluded { .. } => "concluded",
            Self::RemedyChosen { .. } => "remedy-chosen",
            Self::LaunchRejected { .. } => "launch-rejected",
            Self::CredentialsDoubted { .. } => "credentials-doubted",
            Self::RepairEnded { .. } => "repair-ended",
            Self::BackedOff { .. } => "backed-off",
            Self::Held { .. } => "held",
            Self::CallersAffected { .. } => "callers-affected",
            Self::Told { .. } => "told",
            Self::RestartAsked { .. } => "restart-asked",
            Self::ScaleAsked { .. } => "scale-asked",
            Self::DownAsked => "down-asked",
            Self::DeleteAsked { .. } => "delete-asked",
            Self::BackupAsked { .. } => "backup-asked",
            Self::RestoreAsked { .. } => "restore-asked",
            Self::ProofAsked { .. } => "proof-asked",
            Self::BackupBrought { .. } => "backup-brought",
            Self::BackupDropped { .. } => "backup-dropped",
            Self::LossAccepted { .. } => "loss-accepted",
            Self::NeedVerified { .. } => "need-verified",
            Self::ServiceSold { .. } => "service-sold",
            Self::GuestAdmitted { .. } => "guest-admitted",
            Self::SaleEnded { .. } => "sale-ended",
            Self::TrafficMeasured { .. } => "traffic-measured",
            Self::TrafficCounted { .. } => "traffic-counted",
            Self::BudgetBurns { .. } => "budget-burns",
            Self::BudgetCalm { .. } => "budget-calm",
            Self::MoveBegan { .. } => "move-began",
            Self::MoveTurned { .. } => "move-turned",
            Self::MoveHeld { .. } => "move-held",
            Self::MoveReturned { .. } => "move-returned",
            Self::MoveEnded { .. } => "move-ended",
            Self::InstanceDiscarded { .. } => "instance-discarded",
            Self::DrillBegan { .. } => "drill-began",
            Self::DrillEnded { .. } => "drill-ended",
            Self::UpgradesSought { .. } => "upgrades-sought",
            Self::Upgrade { .. } => "upgrade",
            Self::ServiceCredit { .. } => "service-credit",
            Self::OverrideBegan { .. } => "override-began",
            Self::OverrideWeighed { .. } => "override-weighed",
            Self::OverrideEnded { .. } => "override-ended",
            Self::SelfUpgrade { .. } => "self-upgrade",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_word_in_the_list() {
        let error = serde_json::from_str::<FactKind>(r#"{"fact":"?"}"#).unwrap_err().to_string();
        let listed = FactKind::WORDS.map(|word| format!("`{word}`")).join(", ");
        assert!(error.contains(&format!("expected one of {listed}")), "{error}");
    }
}
