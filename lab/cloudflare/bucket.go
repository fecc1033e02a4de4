package cloudflare

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

type bucket struct {
	Name         string    `json:"name"`
	Location     string    `json:"location"`
	StorageClass string    `json:"storage_class"`
	Jurisdiction string    `json:"jurisdiction"`
	Created      time.Time `json:"creation_date"`
}

var bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)

// jurisdiction is the name space of a bucket: the same name can exist in each.
func jurisdiction(r *http.Request) (string, error) {
	name := r.Header.Get("Cf-R2-Jurisdiction")
	if name == "" {
		name = "default"
	}
	if !slices.Contains([]string{"default", "eu", "fedramp"}, name) {
		return "", refuse(http.StatusBadRequest, 10000, "The jurisdiction %q is not valid.", name)
	}
	return name, nil
}

func (s *Server) createBucket(st *state, r *http.Request) (any, error) {
	where, err := jurisdiction(r)
	if err != nil {
		return nil, err
	}
	request := struct {
		Name         string `json:"name"`
		StorageClass string `json:"storageClass"`
		LocationHint string `json:"locationHint"`
	}{StorageClass: "Standard", LocationHint: "weur"}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	if !bucketPattern.MatchString(request.Name) {
		return nil, refuse(http.StatusBadRequest, 10005, "The specified bucket name is not valid.")
	}
	if !slices.Contains([]string{"Standard", "InfrequentAccess"}, request.StorageClass) {
		return nil, refuse(http.StatusBadRequest, 10000, "The storage class %q is not valid.", request.StorageClass)
	}
	if _, exists := st.Buckets[where][request.Name]; exists {
		return nil, refuse(http.StatusConflict, 10004, "The bucket you tried to create already exists, and you own it.")
	}
	if st.Buckets[where] == nil {
		st.Buckets[where] = map[string]bucket{}
	}
	made := bucket{
		Name: request.Name, Location: strings.ToUpper(request.LocationHint),
		StorageClass: request.StorageClass, Jurisdiction: where, Created: now(),
	}
	st.Buckets[where][made.Name] = made
	return made, nil
}

func bucketsIn(st *state, where string) []bucket {
	list := []bucket{}
	for _, name := range slices.Sorted(maps.Keys(st.Buckets[where])) {
		list = append(list, st.Buckets[where][name])
	}
	return list
}

func allBuckets(st *state) []bucket {
	list := []bucket{}
	for _, where := range slices.Sorted(maps.Keys(st.Buckets)) {
		list = append(list, bucketsIn(st, where)...)
	}
	return list
}

func (s *Server) listBuckets(st *state, r *http.Request) (any, error) {
	where, err := jurisdiction(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"buckets": bucketsIn(st, where)}, nil
}

func findBucket(st *state, r *http.Request) (bucket, error) {
	where, err := jurisdiction(r)
	if err != nil {
		return bucket{}, err
	}
	found, exists := st.Buckets[where][r.PathValue("bucket")]
	if !exists {
		return bucket{}, refuse(http.StatusNotFound, 10006, "The specified bucket does not exist.")
	}
	return found, nil
}

func (s *Server) getBucket(st *state, r *http.Request) (any, error) {
	found, err := findBucket(st, r)
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (s *Server) deleteBucket(st *state, r *http.Request) (any, error) {
	found, err := findBucket(st, r)
	if err != nil {
		return nil, err
	}
	delete(st.Buckets[found.Jurisdiction], found.Name)
	return map[string]any{}, nil
}
