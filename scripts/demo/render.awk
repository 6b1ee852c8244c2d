# Sets what psql prints while it runs an act of the demo. Runs under LC_ALL=C: counts UTF-8 characters itself.
function chars(text) { gsub(/[\200-\277]/, "", text); return length(text) }
function fit(text, width,    n) {
    if (chars(text) > width) {
        while (chars(text) > width - 1) text = substr(text, 1, length(text) - 1)
        sub(/[\300-\377][\200-\277]*$/, "", text)
        text = text "…"
    }
    n = width - chars(text)
    while (n-- > 0) text = text " "
    return text
}
function money(x,    s, out) {
    s = sprintf("%.0f", x); out = ""
    while (length(s) > 3) { out = "," substr(s, length(s) - 2) out; s = substr(s, 1, length(s) - 3) }
    return s out
}
# The rows come ordered as siblings should stand. Deep levels show their largest children only.
function draw(id, lead, level,    n, i, kid, last, shown, most) {
    n = kids[id]; most = level < 2 ? n : level == 2 ? 4 : 3
    if (level > 3) return
    shown = n > most + 1 ? most : n
    for (i = 1; i <= shown; i++) {
        kid = child[id, i]; last = (i == n)
        row(lead (last ? "└─ " : "├─ "), kid)
        draw(kid, lead (last ? "   " : "│  "), level + 1)
    }
    if (shown < n) print "    " dim lead "└─ and " (n - shown) " more" plain
}
function row(lead, id,    below) {
    print "    " dim lead plain fit(name[id], 55 - chars(lead)) " " sprintf("%11s %12s %5d", (own[id] ~ /[1-9]/ ? money(own[id]) : "-"), money(total[id]), count[id])
}
function wrapped(text, colour,    at, lead) {
    lead = "    "
    while (chars(text) > 94 - length(lead)) {
        at = 94 - length(lead)
        while (at > 1 && substr(text, at, 1) != " ") at--
        if (at == 1) break
        print lead colour substr(text, 1, at - 1) plain
        text = substr(text, at + 1); lead = "            "
    }
    print lead colour text plain
}
/^@say /  { print substr($0, 6); next }
/^@gap/   { print ""; next }
/^@sql /  { print blue "  │ " substr($0, 6) plain; next }
/^@rows/  { drawing = 1; split("", kids); root = ""; next }
/^@draw/  {
    drawing = 0
    print "    " dim fit("account", 55) " " sprintf("%11s %12s %5s", "own ARR $", "rolled up $", "nodes") plain
    row("", root); draw(root, "", 1)
    if (took != "") print took
    next
}
/^@refused / {
    if ($2 != $3) { print red "expected a refusal with SQLSTATE " $2 ", got " $3 plain; bad = 1 }
    else print green "    refused, as it should be (SQLSTATE " $2 ")" plain
    next
}
/^@check / {
    if ($2 != "t") { print red "not as expected: " substr($0, 9) plain; bad = 1 }
    next
}
/^Time: / {
    took = "    " dim "took " ($2 >= 100 ? sprintf("%.0f", $2) : sprintf("%.1f", $2)) " ms" plain
    if (!drawing) print took
    next
}
drawing && /\t/ {
    split($0, f, "\t"); gsub(/,/, "", f[4]); gsub(/,/, "", f[5]); gsub(/,/, "", f[6])
    name[f[1]] = f[3]; own[f[1]] = f[4]; total[f[1]] = f[5]; count[f[1]] = f[6]
    if (root == "") root = f[1]; else child[f[2], ++kids[f[2]]] = f[1]
    next
}
/ERROR:  |^(DETAIL|HINT):  / {
    sub(/^psql:[^ ]* /, "")
    wrapped($0, red)
    next
}
$0 == ""  { next }
          { print "    " $0 }
END       { exit bad }
