-- A used invite is kept until it would have expired, so that a repeated request does not bring it back.
ALTER TABLE accounts.invites ADD COLUMN used_at timestamptz;
