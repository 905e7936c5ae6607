// Package fill makes values for tests that must not overlook a field. A codec
// that gives back what Fill has set knows all fields; one that was not taught a
// new field fails its test.
package fill

import (
	"fmt"
	"reflect"
	"time"
)

// Fill sets every field of the struct that p points to, and of the structs
// within, to a value that is not zero. No two numbers or strings are the same.
// Slices and maps get two elements. Fill panics if it does not know a type, so
// that a field of a new type must be added here.
func Fill(p any) {
	f := filler{}
	f.fill(reflect.ValueOf(p).Elem(), "")
}

type filler struct{ n int64 }

func (f *filler) next() int64 { f.n++; return f.n }

func (f *filler) fill(v reflect.Value, path string) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1_700_000_000+f.next(), f.next()).UTC()))
		return
	case []byte:
		v.SetBytes([]byte(path + fmt.Sprint(f.next())))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(path + fmt.Sprint(f.next()))
	case reflect.Int, reflect.Int64:
		v.SetInt(f.next())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i), v.Type().Field(i).Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			f.fill(v.Index(i), path)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key, path)
			f.fill(elem, path)
			v.SetMapIndex(key, elem)
		}
	default:
		panic(fmt.Sprintf("fill: teach Fill the type %v of field %s", v.Type(), path))
	}
}

// Zero returns the names of the fields of the struct that p points to, and of
// the structs within, that are zero. For a slice it looks at the first element.
func Zero(p any) []string { return zero(reflect.ValueOf(p).Elem(), "") }

func zero(v reflect.Value, path string) (names []string) {
	if v.Kind() == reflect.Slice && v.Len() > 0 && v.Index(0).Kind() == reflect.Struct {
		return zero(v.Index(0), path)
	}
	if _, isTime := v.Interface().(time.Time); v.Kind() == reflect.Struct && !isTime {
		for i := range v.NumField() {
			names = append(names, zero(v.Field(i), path+"."+v.Type().Field(i).Name)...)
		}
		return names
	}
	if v.IsZero() {
		names = append(names, path)
	}
	return names
}

// Scramble changes every element of the slices and maps in the struct that p
// points to, and removes all elements of its maps. A clone that shares one of
// them with its original changes the original, too. []byte values are left
// alone: they never change.
func Scramble(p any) { scramble(reflect.ValueOf(p).Elem()) }

func scramble(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			scramble(v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		for i := range v.Len() {
			scramble(v.Index(i))
			v.Index(i).SetZero()
		}
	case reflect.Map:
		for iter := v.MapRange(); iter.Next(); {
			scramble(iter.Value()) // of its slices, which are shared
		}
		v.Clear()
	}
}
