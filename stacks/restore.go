package stacks

import (
	"slices"
	"time"

	"github.com/tinyrack-net/infrastructure/components/databases"
	"github.com/tinyrack-net/infrastructure/components/flux"
)

// suspended are the layers that Flux leaves alone, by the phase of a restore.
var suspended = map[string][]string{
	phaseNone:           nil,
	phaseInfrastructure: {databases.VolumesLayer, databases.Layer, appsLayer},
	phaseVolumes:        {databases.Layer, appsLayer},
	phaseDatabases:      {appsLayer},
	phaseApps:           nil,
}

// restoring tells whether databases are to come out of their copies.
func (c Config) restoring() bool {
	return c.Restore != nil && c.Restore.Phase != "" && c.Restore.Phase != phaseNone
}

// until is the time whose state is wanted, zero for the last one.
func (r *Restore) until() (time.Time, error) {
	if r.Until == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, r.Until)
}

// layers are those that know which incarnation of the databases there is, and from which copies it comes, if it does. A
// layer gets all of it at once: between a new incarnation and what restores it, an empty database would be made.
func (s *stack) layers() map[string]flux.Layer {
	backups := s.backups()
	if backups == nil {
		return nil
	}
	of := databases.Origins{Incarnation: backups.Current()}
	var stopped []string
	layer := flux.Layer{}
	if s.cfg.restoring() {
		of.From = s.cfg.Restore.From
		stopped = suspended[s.cfg.Restore.Phase]
		until, _ := s.cfg.Restore.until() // validated
		layer.Patches = patches(backups.Recoveries(until)...)
	}
	layers := map[string]flux.Layer{databases.Layer: layer, appsLayer: {}}
	for name, layer := range layers {
		layer.Variables, layer.Suspended = of.Variables(), slices.Contains(stopped, name)
		layers[name] = layer
	}
	if backups.Volumes && s.cfg.restoring() {
		layer := flux.Layer{Suspended: slices.Contains(stopped, databases.VolumesLayer)}
		if name := s.cfg.Restore.Volumes; name != "" {
			layer.Patches = patches(databases.VolumeRecovery(name))
		}
		layers[databases.VolumesLayer] = layer
	}
	return layers
}

func patches(recoveries ...databases.Recovery) []flux.Patch {
	var all []flux.Patch
	for _, r := range recoveries {
		all = append(all, flux.Patch{Group: r.Group, Kind: r.Kind, Text: r.Patch})
	}
	return all
}
