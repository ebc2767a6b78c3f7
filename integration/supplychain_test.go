package integration

import (
	"debug/buildinfo"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheSBOMNamesEveryModuleOfTheBinary(t *testing.T) {
	binary, err := productBinary()
	require.NoError(t, err)
	command := exec.Command("sh", "-c", `go version -m "$1" | awk -f ../.ci/sbom.awk`, "sh", binary)
	text, err := command.Output()
	require.NoError(t, err)
	var sbom struct {
		BOMFormat string `json:"bomFormat"`
		Metadata  struct {
			Component struct{ Name string }
		}
		Components []struct {
			Name, Version, PURL string
			Properties          []struct{ Name, Value string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &sbom))
	require.Equal(t, "CycloneDX", sbom.BOMFormat)
	require.Equal(t, "midas-sidecar", sbom.Metadata.Component.Name)

	info, err := buildinfo.ReadFile(binary)
	require.NoError(t, err)
	require.Len(t, sbom.Components, 1+len(info.Deps))
	require.Equal(t, "pkg:golang/stdlib@"+strings.TrimPrefix(info.GoVersion, "go"), sbom.Components[0].PURL)
	for i, module := range info.Deps {
		component := sbom.Components[1+i]
		require.Equal(t, module.Path, component.Name)
		require.Equal(t, module.Version, component.Version)
		require.Equal(t, "pkg:golang/"+strings.ToLower(module.Path)+"@"+strings.ReplaceAll(module.Version, "+", "%2B"), component.PURL)
		require.Equal(t, module.Sum, component.Properties[0].Value)
	}
}
