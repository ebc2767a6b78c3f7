# Turns what "go version -m" says of a binary into a CycloneDX list of its modules.

function purl(path, version) {
	gsub(/\+/, "%2B", version)
	return "pkg:golang/" tolower(path) (version == "(devel)" ? "" : "@" version)
}

function component(kind, path, version, sum) {
	printf "{\"type\":\"%s\",\"name\":\"%s\",\"version\":\"%s\",\"purl\":\"%s\"", kind, path, version, purl(path, version)
	if (sum) printf ",\"properties\":[{\"name\":\"go.sum\",\"value\":\"%s\"}]", sum
	printf "}"
}

NR == 1 { go = substr($2, 3) }
$1 == "mod" {
	printf "{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"version\":1,\n\"metadata\":{\"component\":"
	component("application", $2, $3)
	printf "},\n\"components\":[\n"
	component("library", "stdlib", go)
}
$1 == "dep" { printf ",\n"; component("library", $2, $3, $4) }
$1 == "=>" { print "a replaced module: not understood" > "/dev/stderr"; exit 1 }
END { print "\n]}" }
