-- The journal's tables, as a fresh journal has them. Upgrades of older ones lead to exactly this text.

-- position: counted from 1 without gaps. at: microseconds since 1970. chain: see chain.rs.
CREATE TABLE facts (
  position INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  body BLOB NOT NULL,
  chain BLOB NOT NULL
) STRICT;

-- position: the end of the append that set the secret; authenticated together with the id.
CREATE TABLE secrets (
  id TEXT PRIMARY KEY,
  sealed BLOB NOT NULL,
  position INTEGER NOT NULL
) STRICT;

-- chain: the chain's value at the position. checksum: SHA-256 over all that precedes it.
CREATE TABLE snapshots (
  position INTEGER PRIMARY KEY,
  version INTEGER NOT NULL,
  chain BLOB NOT NULL,
  body BLOB NOT NULL,
  checksum BLOB NOT NULL
) STRICT;

-- Small values: ours are named journal/…, the caller's caller/…. checksum: SHA-256 over name and value.
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value BLOB NOT NULL,
  checksum BLOB NOT NULL
) STRICT;
