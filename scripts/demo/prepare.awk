# Turns an act of the demo into a psql script that shows itself. See README.md.
function quoted(text) { gsub(/'/, "''", text); gsub(/\\/, "\\\\", text); return "'" text "'" }
function say(kind, text) { print "\\echo " quoted(kind text) }
function finish() {
    if (refused) {
        print "\\echo '@refused " refused "' :SQLSTATE"
        print "\\set ON_ERROR_STOP on"
    }
    if (tree) print "\\echo '@draw'\n\\pset format aligned\n\\pset tuples_only off"
    refused = ""; tree = 0; hush = 0; open = 0
}
BEGIN { print "\\set QUIET on\n\\timing off"; loud = 1 }
/^--quiet/   { loud = 0; next }
/^--loud/    { loud = 1; next }
/^--refused/ { refused = $2; next }
/^--tree/    { tree = 1; next }
/^--hush/    { hush = 1; next }
/^--check/   {
    sub(/^--check /, "")
    print "\\timing off\nSELECT (" $0 ") AS ok \\gset"
    print "\\echo '@check' :ok " quoted($0)
    next
}
/^--/        { sub(/^-- ?/, ""); say("@say ", $0); next }
/^\\/ || !loud { print; next }
/^$/         { if (!open) say("@gap", ""); next }
!open && /^(BEGIN|COMMIT|ROLLBACK|SET|RESET|SAVEPOINT)/ {
    say("@sql ", $0)
    print "\\timing off\n\\o /dev/null\n" $0 "\n\\o"
    next
}
{
    if (!open) {
        open = 1
        if (refused) print "\\set ON_ERROR_STOP off"
        if (tree) print "\\pset format unaligned\n\\pset tuples_only on\n\\pset fieldsep '\\t'"
        statement = ""
    }
    say("@sql ", $0)
    statement = statement $0 "\n"
    if ($0 ~ /;[ ]*(--.*)?$/) {
        if (tree) print "\\echo '@rows'"
        if (hush) print "\\o /dev/null"
        printf "\\timing on\n\\set QUIET off\n%s\\set QUIET on\n\\timing off\n", statement
        if (hush) print "\\o"
        finish()
    }
}
