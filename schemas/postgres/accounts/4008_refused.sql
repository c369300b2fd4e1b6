-- The object that came of an upload, was read through and is not what was promised, by its entity tag: it is not read again.
ALTER TABLE accounts.uploads ADD COLUMN refused text;
