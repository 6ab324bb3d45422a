-- Schema 5: jobs.
CREATE OR REPLACE FUNCTION llm_schema(payload jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT jsonb_build_object('version', 5)
$$;
