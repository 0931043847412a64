// The types of a framework come with an empty module, so that importing them is no error where types are left in.
export {};
