-- The rights of each process. Roles belong to the whole server, so another database may have made them already.
DO $$
DECLARE
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('cinelog roles'));
    FOREACH name IN ARRAY ARRAY['cinelog_log_owner', 'cinelog_projector', 'cinelog_transcoder', 'cinelog_api'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            IF name = 'cinelog_projector' THEN
                EXECUTE 'ALTER ROLE cinelog_projector BYPASSRLS';
            END IF;
        END IF;
        IF NOT pg_has_role(current_user, name, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO %I', name, current_user);
        END IF;
    END LOOP;
    -- Nobody shadows a type or an operator of a SECURITY DEFINER function.
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $$;
