-- Only a superuser may create event triggers (some hosts let their administrator role do it).
DROP EVENT TRIGGER IF EXISTS leyden_ddl;
DROP EVENT TRIGGER IF EXISTS leyden_drop;
DROP EVENT TRIGGER IF EXISTS leyden_rewrite;
DROP EVENT TRIGGER IF EXISTS leyden_rights;
DROP EVENT TRIGGER IF EXISTS leyden_rights_drop;
CREATE EVENT TRIGGER leyden_ddl ON ddl_command_end EXECUTE FUNCTION leyden.on_ddl_end();
CREATE EVENT TRIGGER leyden_drop ON sql_drop EXECUTE FUNCTION leyden.on_drop();
CREATE EVENT TRIGGER leyden_rewrite ON table_rewrite EXECUTE FUNCTION leyden.on_rewrite();
CREATE EVENT TRIGGER leyden_rights ON ddl_command_end EXECUTE FUNCTION leyden.on_rights();
CREATE EVENT TRIGGER leyden_rights_drop ON sql_drop EXECUTE FUNCTION leyden.on_rights();
ALTER EVENT TRIGGER leyden_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER leyden_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER leyden_rewrite ENABLE ALWAYS;
ALTER EVENT TRIGGER leyden_rights ENABLE ALWAYS;
ALTER EVENT TRIGGER leyden_rights_drop ENABLE ALWAYS;
