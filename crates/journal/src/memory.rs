//! A journal in memory, for simulations and tests. Invariant: it behaves as [`crate::Sqlite`] does on a disk that
//! never fails; the shared suite holds both to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ostler_model::ids::{Position, SecretId};

use crate::error::{AppendError, ReadError};
use crate::limits::{self, READ_AT_ONCE_MAX};
use crate::sealed::{Key, Sealer};
use crate::{Journal, NewFact, Record, SealedChange, SecretValue, Snapshot, Snapshots};

/// Facts and sealed secrets in memory; a clone is an independent journal with the same past.
#[derive(Clone)]
pub struct Memory {
    records: Vec<Record>,
    sealer: Sealer,
    /// Sealed bytes, and the position at which they were set.
    secrets: BTreeMap<SecretId, (Position, Vec<u8>)>,
    snapshots: Vec<Snapshot>,
    meta: BTreeMap<String, Vec<u8>>,
}

impl Memory {
    /// An empty journal whose secrets are sealed with `key`.
    pub fn new(key: &Key) -> Self {
        Self {
            records: Vec::new(),
            sealer: Sealer::new(key),
            secrets: BTreeMap::new(),
            snapshots: Vec::new(),
            meta: BTreeMap::new(),
        }
    }

    /// How many records have a position up to `position`.
    fn up_to(&self, position: Position) -> usize {
        usize::try_from(position.0).map_or(self.records.len(), |count| count.min(self.records.len()))
    }
}

impl Journal for Memory {
    fn append(
        &mut self,
        expected: Position,
        facts: &[NewFact],
        secrets: &[SealedChange],
    ) -> Result<Position, AppendError> {
        limits::check(facts, secrets)?;
        if expected != self.end() {
            return Err(AppendError::Conflict { expected, actual: self.end() });
        }
        let end = Position(expected.0 + facts.len() as u64);
        let sealed = secrets.iter().map(|change| {
            let value = change.value.as_ref().map(|value| self.sealer.seal_secret(&change.id, end, value));
            value.transpose().map(|value| (change.id.clone(), value))
        });
        let sealed = sealed
            .collect::<Result<Vec<_>, _>>()
            .map_err(|cause| AppendError::Io { path: PathBuf::from("memory"), cause: Arc::new(cause) })?;
        self.records.extend(facts.iter().zip(expected.0 + 1..).map(|(fact, position)| Record {
            position: Position(position),
            at: fact.at,
            kind: fact.kind.clone(),
            body: fact.body.clone(),
        }));
        for (id, value) in sealed {
            match value {
                Some(value) => self.secrets.insert(id, (end, value)),
                None => self.secrets.remove(&id),
            };
        }
        Ok(end)
    }

    fn end(&self) -> Position {
        Position(self.records.len() as u64)
    }

    fn read(&self, after: Position, most: usize) -> Result<Vec<Record>, ReadError> {
        let records = &self.records[self.up_to(after)..];
        Ok(records.iter().take(most.min(READ_AT_ONCE_MAX)).cloned().collect())
    }

    fn read_back(&self, before: Position, most: usize) -> Result<Vec<Record>, ReadError> {
        let records = &self.records[..self.up_to(Position(before.0.saturating_sub(1)))];
        Ok(records.iter().rev().take(most.min(READ_AT_ONCE_MAX)).cloned().collect())
    }

    fn secret(&self, id: &SecretId) -> Result<Option<SecretValue>, ReadError> {
        let Some((at, sealed)) = self.secrets.get(id) else { return Ok(None) };
        self.sealer.unseal_secret(id, *at, sealed).map(Some).ok_or_else(|| ReadError::Secret { id: id.clone() })
    }

    fn save_snapshot(&mut self, at: Position, version: u32, body: &[u8]) -> Result<(), AppendError> {
        limits::check_snapshot(body)?;
        if at > self.end() {
            return Err(limits::refused(format!("a snapshot at {at} is beyond the journal's end")));
        }
        self.snapshots.retain(|snapshot| snapshot.at != at);
        self.snapshots.push(Snapshot { at, version, body: body.to_vec() });
        self.snapshots.sort_by_key(|snapshot| snapshot.at);
        let surplus = self.snapshots.len().saturating_sub(2);
        self.snapshots.drain(..surplus);
        Ok(())
    }

    fn latest_snapshot(&self) -> Result<Snapshots, ReadError> {
        Ok(Snapshots { latest: self.snapshots.last().cloned(), damaged: Vec::new() })
    }

    fn meta_get(&self, name: &str) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.meta.get(name).cloned())
    }

    fn meta_set(&mut self, name: &str, value: &[u8]) -> Result<(), AppendError> {
        limits::check_meta(name, value)?;
        self.meta.insert(name.into(), value.to_vec());
        Ok(())
    }
}
